"""Padding of the last volume and the index, so that sizes tell less: Padme, at most 12 % and usually far less.

Source: Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with PURBs", section 4.
"""

from __future__ import annotations

from bundler.format.errors import BadBundle


def padme(length_bytes: int) -> int:
    """Returns the padded length: the mantissa of the length keeps only as many bits as its exponent has."""
    if length_bytes < 2:
        return length_bytes
    exponent = length_bytes.bit_length() - 1
    low_bits = exponent - exponent.bit_length()
    mask = (1 << low_bits) - 1
    return (length_bytes + mask) & ~mask


def pad_document(document: bytes) -> bytes:
    """Returns the document, a line feed, and zeros up to the padded length."""
    length = len(document) + 1
    return document + b"\n" + bytes(padme(length) - length)


def unpad_document(padded: bytes, what: str) -> bytes:
    """Returns the document before the padding; raises BadBundle if the padding is not what we write.

    Canonical JSON holds no raw line feed, so the first one ends the document.
    """
    document, mark, _ = padded.partition(b"\n")
    if not mark or pad_document(document) != padded:
        raise BadBundle(f"{what} is not padded as the format says")
    return document
