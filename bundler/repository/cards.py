"""Cards that are printed: plain text of at most 72 columns, made from what must never travel on a stick."""

from __future__ import annotations

import base64
import binascii
import re
import textwrap

from bundler.format.errors import BadInput

_WIDTH = 72
_LINE_CHARS = 48
_LINE = re.compile(r"([0-9]{2})/([0-9]{2}) ([A-Z2-7]{1,48}) ([0-9a-f]{4})")
_MAY = {
    "root": "names the other keys; keep two copies offline, use it rarely",
    "release": "signs software, policy and the hosts a box may talk to",
    "refresh": "signs content for unattended jobs; no software, no host",
    "ledger": "opens the record of all bundle keys and sites; signs nothing",
}


def site_card(msp: str, repository: str, site: str, code: str, root_sha256: str) -> str:
    """Returns the site card: the code proves the root and opens the bundle."""
    return _card(
        f"SITE CARD  {site}",
        [
            f"Issued by {msp} for repository {repository[:16]}",
            "",
            f"Site code:  {code}",
            "",
            "The box asks for this code once, at its first install.",
            "Keep this card at the site, and never on the stick.",
            f"Root:  {root_sha256[:32]}",
            f"       {root_sha256[32:]}",
        ],
    )


def recovery_card(msp: str, repository: str, code: str, root_sha256: str) -> str:
    """Returns the card of the recovery site: with it alone every bundle of the repository can be opened."""
    return _card(
        "RECOVERY CARD",
        [
            f"Issued by {msp} for repository {repository[:16]}",
            "",
            f"Recovery code:  {code}",
            "",
            "It opens every bundle of this repository without any box.",
            "Keep it offline with the root key, and never on a stick.",
            f"Root:  {root_sha256[:32]}",
            f"       {root_sha256[32:]}",
        ],
    )


def key_card(msp: str, name: str, path: str, key_id: str, sealed: bytes) -> str:
    """Returns the card of a signing key: what it may do, and the encrypted key itself, to be typed back.

    Args:
        msp: Whose key.
        name: Of the key in the keyring.
        path: Where its file lies now.
        key_id: TUF key id.
        sealed: The key file, encrypted with the passphrase.
    """
    lines = [f"Owner: {msp}", f"File:  {path}", f"Key:   {key_id[:32]}", f"       {key_id[32:]}"]
    lines += [_MAY[name]] if name in _MAY else []
    lines += ["", "The encrypted key; `lifeboat keys restore` reads these lines back:"]
    return _card(f"KEY CARD  {name}", [*lines, *secret_lines(sealed)])


def secret_lines(sealed: bytes) -> list[str]:
    """Returns bytes as numbered lines of base32, each with a checksum of number and text (CRC-16/XMODEM)."""
    text = base64.b32encode(sealed).decode().rstrip("=")
    parts = textwrap.wrap(text, _LINE_CHARS)
    numbers = [f"{number:02d}/{len(parts):02d}" for number in range(1, len(parts) + 1)]
    return [f"{number} {part} {_checksum(number, part)}" for number, part in zip(numbers, parts, strict=True)]


def read_secret_lines(text: str) -> bytes:
    """Reads the lines back, whatever stands around them.

    Raises:
        BadInput: A line is missing or mistyped; it is named.
    """
    found: dict[int, str] = {}
    last = 1
    for match in _LINE.finditer(text):
        number, last, part = int(match[1]), int(match[2]), match[3]
        if _checksum(f"{match[1]}/{match[2]}", part) != match[4]:
            raise BadInput(f"line {match[1]} of the card is mistyped", "compare it letter by letter")
        found[number] = part
    if missing := set(range(1, last + 1)) - found.keys():
        raise BadInput(f"lines of the card are missing: {', '.join(f'{number:02d}' for number in sorted(missing))}")
    joined = "".join(found[number] for number in sorted(found))
    try:
        return base64.b32decode(joined + "=" * (-len(joined) % 8))
    except binascii.Error:  # lines of several cards, each right by itself
        raise BadInput("these lines do not make one card", "type the lines of one card only") from None


def _checksum(number: str, part: str) -> str:
    return f"{binascii.crc_hqx(f'{number} {part}'.encode(), 0):04x}"


def _card(title: str, lines: list[str]) -> str:
    bar = "+" + "-" * (_WIDTH - 2) + "+"
    rows = [f"| {line[: _WIDTH - 4]:<{_WIDTH - 4}} |" for line in (title, "", *lines)]
    return "\n".join([bar, *rows, bar, ""])
