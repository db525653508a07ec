"""Bech32 (BIP 173) without a length limit, as age writes its keys (C2SP age, "Conventions")."""

from collections.abc import Iterable

from bundler.format.age.errors import KeyFailure

_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM_CHARS = 6
MAX_CHARS = 4096
"""Ours: the longest key, a hybrid recipient, has 1,959 characters."""


def encode(prefix: str, data: bytes) -> str:
    """Write bytes as lowercase Bech32.

    Args:
        prefix: the human-readable part, lowercase, without the separator.
        data: any number of bytes.
    """
    values = list(_regroup(data, 8, 5))
    if len(data) * 8 % 5:
        values.append(_last_bits(data))
    return f"{prefix}1" + "".join(_ALPHABET[value] for value in values + _checksum(prefix, values))


def decode(text: str, prefix: str) -> bytes:
    """Read Bech32 of either case, but not of both.

    Args:
        text: the whole string.
        prefix: the human-readable part it must have, lowercase.

    Returns:
        The data part, without prefix and checksum.

    Raises:
        KeyFailure: the string is too long, of mixed case, of another prefix, damaged, or not canonical.
    """
    # ASCII first: the Kelvin sign is a K to lower(), and a key must have one spelling.
    if len(text) > MAX_CHARS or not text.isascii() or text not in (text.lower(), text.upper()):
        raise KeyFailure(f"not Bech32: over {MAX_CHARS} characters, not ASCII, or of mixed case")
    found, _, tail = text.lower().rpartition("1")
    if found != prefix:
        # The text before the separator is not shown: of a garbled secret key it may be the secret.
        raise KeyFailure(f"not a key of the kind {prefix}1...")
    values = _values(tail)
    if _polymod(_expand(found) + values) != 1:
        raise KeyFailure("Bech32 checksum does not match")
    return _join(values[:-_CHECKSUM_CHARS])


def _values(tail: str) -> list[int]:
    values = [_ALPHABET.find(char) for char in tail]
    if len(values) < _CHECKSUM_CHARS or -1 in values:
        raise KeyFailure("not Bech32: a character outside the alphabet, or too short")
    return values


def _join(values: list[int]) -> bytes:
    data = bytes(_regroup(values, 5, 8))
    spare_bits = len(values) * 5 % 8
    # BIP 173: padding is shorter than one character and all zero, else two strings would name one key.
    if spare_bits >= 5 or (spare_bits and values[-1] & ((1 << spare_bits) - 1)):
        raise KeyFailure("Bech32 padding is not canonical")
    return data


def _regroup(values: Iterable[int], from_bits: int, to_bits: int) -> Iterable[int]:
    """Yield whole groups of `to_bits`; bits that fill no group are left to the caller."""
    accumulator = held_bits = 0
    for value in values:
        accumulator = (accumulator << from_bits | value) & 0xFFFF
        held_bits += from_bits
        while held_bits >= to_bits:
            held_bits -= to_bits
            yield accumulator >> held_bits & ((1 << to_bits) - 1)


def _last_bits(data: bytes) -> int:
    spare_bits = len(data) * 8 % 5
    return (data[-1] & ((1 << spare_bits) - 1)) << (5 - spare_bits)


def _expand(prefix: str) -> list[int]:
    return [ord(char) >> 5 for char in prefix] + [0] + [ord(char) & 31 for char in prefix]


def _checksum(prefix: str, values: list[int]) -> list[int]:
    polymod = _polymod(_expand(prefix) + values + [0] * _CHECKSUM_CHARS) ^ 1
    return [polymod >> 5 * (5 - place) & 31 for place in range(_CHECKSUM_CHARS)]


def _polymod(values: Iterable[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for place, generator in enumerate(_GENERATOR):
            checksum ^= generator if top >> place & 1 else 0
    return checksum
