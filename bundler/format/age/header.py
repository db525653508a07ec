"""The text header of an age file: bytes to stanzas and back, no cryptography, no I/O (C2SP age, "Header").

Rules, in the order they are checked:
1. The first line is exactly `age-encryption.org/v1`.
2. The header ends at the first line that starts with `---`, within `MAX_HEADER_BYTES`.
3. One to `MAX_STANZAS` stanzas; printable ASCII arguments, single spaces, LF line ends.
4. Every base64 text is unpadded and canonical, every body ends in a line shorter than 64 columns.
So one header has one encoding: whatever `parse` takes, `encode_unsigned` writes again byte for byte.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass

from bundler.format.age.errors import HeaderFailure

MAX_HEADER_BYTES = 512 * 1024
"""Ours, not the spec's: room for `MAX_STANZAS` hybrid stanzas of 1.6 kB."""
MAX_STANZAS = 256
"""Ours, not the spec's: bounds the key agreements that a hostile header can ask for."""
MAC_BYTES = 32

_INTRO = b"age-encryption.org/v1\n"
_MARK = b"---"
_MAC_TAIL_BYTES = 45  # a space, 43 characters of base64, LF
_COLUMNS = 64
_ARGUMENTS = re.compile(rb"-> ([!-~]+(?: [!-~]+)*)")
_BODY_LINE = re.compile(rb"[A-Za-z0-9+/]{0,64}")


@dataclass(frozen=True)
class Stanza:
    """One wrapping of the file key.

    Attributes:
        args: at least one; the first is the type.
        body: the wrapped key, as bytes.
    """

    args: tuple[str, ...]
    body: bytes

    @property
    def type(self) -> str:
        """The recipient type, such as `X25519`."""
        return self.args[0]

    def encode(self) -> bytes:
        """The stanza as it stands in the file."""
        body = encode_base64(self.body)
        # A body that fills its last line is followed by an empty one: every stanza ends in a short line.
        lines = [body[at : at + _COLUMNS] for at in range(0, len(body) + 1, _COLUMNS)]
        return "".join(f"{line}\n" for line in ("-> " + " ".join(self.args), *lines)).encode("ascii")


@dataclass(frozen=True)
class Header:
    """A parsed header.

    Attributes:
        stanzas: in file order.
        signed: the bytes under the MAC, up to and including `---`.
        mac: HMAC-SHA-256 as found, not yet checked.
    """

    stanzas: tuple[Stanza, ...]
    signed: bytes
    mac: bytes

    @property
    def size_bytes(self) -> int:
        """Length in the file; the payload nonce follows."""
        return len(self.signed) + _MAC_TAIL_BYTES


def encode_base64(data: bytes) -> str:
    """Canonical base64 without padding (C2SP age, "Conventions")."""
    return base64.b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64(text: str, size_bytes: int | None = None) -> bytes:
    """Read canonical base64 without padding.

    Args:
        text: the characters, without line ends.
        size_bytes: what the result must measure, if that is known.

    Raises:
        HeaderFailure: a foreign character, padding, stray bits, or another size.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise HeaderFailure("not base64") from None
    # RFC 4648 3.5: bits beyond the last byte must be zero, else one header had many encodings.
    if encode_base64(data) != text:
        raise HeaderFailure("base64 is not canonical")
    if size_bytes is not None and len(data) != size_bytes:
        raise HeaderFailure(f"expected {size_bytes} bytes of base64, found {len(data)}")
    return data


def encode_unsigned(stanzas: Sequence[Stanza]) -> bytes:
    """Everything up to and including the `---` mark, which is what the MAC covers.

    Raises:
        HeaderFailure: more stanzas or bytes than `parse` would take.
    """
    unsigned = _INTRO + b"".join(stanza.encode() for stanza in stanzas) + _MARK
    if not 1 <= len(stanzas) <= MAX_STANZAS or len(unsigned) + _MAC_TAIL_BYTES > MAX_HEADER_BYTES:
        raise HeaderFailure(f"a header of {len(stanzas)} stanzas and {len(unsigned)} bytes is outside the limits")
    return unsigned


def encode_end(mac: bytes) -> bytes:
    """What follows the `---` mark.

    Args:
        mac: HMAC-SHA-256 over the result of `encode_unsigned`.
    """
    return f" {encode_base64(mac)}\n".encode("ascii")


def size_of(stanzas_bytes: int) -> int:
    """Length in bytes of a header whose encoded stanzas measure `stanzas_bytes`."""
    return len(_INTRO) + stanzas_bytes + len(_MARK) + _MAC_TAIL_BYTES


def find_end(data: bytes) -> int | None:
    """Where the header ends in the first bytes of a file.

    Returns:
        Its length in bytes, or None where `data` stops before the end.

    Raises:
        HeaderFailure: the first line is not that of age v1.
    """
    if data[: len(_INTRO)] != _INTRO[: len(data)]:
        raise HeaderFailure("not an age v1 file: unknown first line")
    mark = data.find(b"\n" + _MARK)
    end = data.find(b"\n", mark + 1) if mark >= 0 else -1
    return end + 1 if end >= 0 else None


def parse(data: bytes) -> Header:
    """Read one whole header.

    Args:
        data: exactly the bytes of the header, as measured by `find_end`.

    Raises:
        HeaderFailure: any of the rules of this module does not hold.
    """
    if len(data) > MAX_HEADER_BYTES:
        raise HeaderFailure(f"header of {len(data)} bytes, the limit is {MAX_HEADER_BYTES}")
    if find_end(data) != len(data):
        raise HeaderFailure("header has no end line")
    signed, mac = data[:-_MAC_TAIL_BYTES], data[-_MAC_TAIL_BYTES:-1]
    if not signed.endswith(b"\n" + _MARK) or not mac.startswith(b" "):
        raise HeaderFailure("malformed end line")
    stanzas = _parse_stanzas(signed[len(_INTRO) : -len(_MARK)])
    return Header(stanzas, signed, decode_base64(mac[1:].decode("latin-1"), MAC_BYTES))


def _parse_stanzas(data: bytes) -> tuple[Stanza, ...]:
    lines = data.split(b"\n")[:-1]
    stanzas: list[Stanza] = []
    at = 0
    while at < len(lines):
        if len(stanzas) == MAX_STANZAS:
            raise HeaderFailure(f"more than {MAX_STANZAS} stanzas")
        after_body = _end_of_body(lines, at + 1)
        stanzas.append(_parse_stanza(lines[at], lines[at + 1 : after_body]))
        at = after_body
    if not stanzas:
        raise HeaderFailure("header has no stanza")
    return tuple(stanzas)


def _end_of_body(lines: Sequence[bytes], at: int) -> int:
    """Index after the first line shorter than 64 columns, counted from `at`."""
    while at < len(lines):
        if not _BODY_LINE.fullmatch(lines[at]):
            raise HeaderFailure("malformed body line")
        if len(lines[at]) < _COLUMNS:
            return at + 1
        at += 1
    raise HeaderFailure("stanza does not end in a short line")


def _parse_stanza(first_line: bytes, body_lines: Sequence[bytes]) -> Stanza:
    arguments = _ARGUMENTS.fullmatch(first_line)
    if arguments is None:
        raise HeaderFailure("malformed stanza line")
    body = decode_base64(b"".join(body_lines).decode("ascii"))
    return Stanza(tuple(arguments[1].decode("ascii").split(" ")), body)
