"""What can be wrong with an age file, one class for each answer of the test vectors."""


class AgeError(Exception):
    """An age file, recipient or identity can't be used."""


class KeyFailure(AgeError):
    """A recipient or identity is malformed. The message never repeats the string, which may be a secret."""


class HeaderFailure(AgeError):
    """The header is malformed, over a limit, or of an unknown version."""


class NoMatch(AgeError):
    """No identity opens any stanza of the header."""


class HmacFailure(AgeError):
    """The file key was found, but the header was changed after it was written."""


class PayloadFailure(AgeError):
    """The payload is damaged, truncated, extended, or over the caller's limit."""
