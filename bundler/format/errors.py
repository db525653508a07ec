"""Errors by whose fault they are. `bundler.terminal` gives each class its exit code; a message holds the fact."""

from __future__ import annotations

from bundler.format.secrets import masked


class LifeboatError(Exception):
    """A failure that a person can act on; logins and tokens in the addresses that it names are masked.

    Args:
        fact: What is wrong, with expected and observed values; lower case, no final period.
        hint: The way out, or "" where none is known.
    """

    def __init__(self, fact: str, hint: str = "") -> None:
        self.fact, self.hint = masked(fact), masked(hint)
        super().__init__(self.fact)


class BadInput(LifeboatError):
    """What the operator supplied is not acceptable: a profile, FAQ, document or model file."""


class BadInputs(BadInput):
    """Several things are wrong with what the operator supplied; all of them are listed."""

    def __init__(self, subject: str, issues: tuple[str, ...], hint: str = "") -> None:
        lines = "".join(f"\n  - {issue}" for issue in issues)
        super().__init__(f"{subject}: {len(issues)} problem{'s' if len(issues) != 1 else ''}{lines}", hint)
        self.issues = tuple(map(masked, issues))


class SourceFailed(LifeboatError):
    """A source (wheel, hub, registry, file) could not deliver what the lock names."""


class PartMissing(LifeboatError):
    """An extra, a tool or a library that this step needs is not installed."""


class BadBundle(LifeboatError):
    """A byte is not what was signed: wrong signature, wrong hash, wrong structure."""


class NotSigned(BadBundle):
    """Metadata that too few of the keys have signed that must."""


class FileMissing(BadBundle):
    """A file that the signed metadata names is not on the medium."""


class UnknownRoot(LifeboatError):
    """The medium is signed by somebody whom this box does not know."""


class MetadataExpired(LifeboatError):
    """Signed metadata is past its expiry and past its grace."""


class TooOld(LifeboatError):
    """The medium is older than what the box has already accepted, or revoked."""


class WrongKey(LifeboatError):
    """The site code, passphrase or identity does not open this file."""


class NewerFormat(LifeboatError):
    """The bundle's format is newer than this program reads."""


class NoSpace(LifeboatError):
    """The computed need for disk or memory is larger than what is free."""


class SystemFailed(LifeboatError):
    """The operating system refused a read or a write, as a failing disk does."""


class SelftestFailed(LifeboatError):
    """The content is authentic and does not answer as its own self-test demands."""


class TakenBack(LifeboatError):
    """The bundle was rolled back on this box, and nobody said that it may serve again."""


class Busy(LifeboatError):
    """Another run holds the lock, or the port is taken."""


class NotReady(LifeboatError):
    """Nothing is installed here yet, or the asked-for part is not running."""
