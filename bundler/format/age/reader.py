"""Reading age files: the header and the payload joined.

Rules of trust, in order:
1. The header is parsed within fixed limits; nothing else of the file has been touched.
2. An identity opens the file key, and with it the MAC over the whole header is checked.
3. Only then is the payload key derived; every chunk is authenticated before a byte of it is given out.
"""

import hmac
import io
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from bundler.format.age import filekey, header, recipients, stream
from bundler.format.age.errors import HeaderFailure, HmacFailure, PayloadFailure
from bundler.format.age.recipients import Identity
from bundler.format.age.source import ReadAt, read_at
from bundler.format.age.writer import NONCE_BYTES

_FIRST_READ_BYTES = 4096


class Reader:
    """Decrypts one file, at any offset or from front to back. Safe to share between threads."""

    def __init__(self, file: BinaryIO, identities: Sequence[Identity], *, size: int) -> None:
        """Read the header and find the key.

        Args:
            file: readable and seekable, from its first byte; stays open and must outlive the reader.
            identities: tried in order.
            size: length of the ciphertext in bytes.

        Raises:
            HeaderFailure: the header is malformed or over a limit, or the payload nonce is missing.
            NoMatch: no identity opens it.
            HmacFailure: the header was changed.
        """
        source = read_at(file)
        found = _read_header(source, size)
        file_key = recipients.unwrap(found, identities)
        if not hmac.compare_digest(filekey.header_mac(file_key, found.signed), found.mac):
            raise HmacFailure("header was changed after it was written")
        nonce = _read(source, found.size_bytes, NONCE_BYTES, size)
        if len(nonce) != NONCE_BYTES:
            raise HeaderFailure(f"file ends inside the payload nonce, after {len(nonce)} bytes of it")
        start = found.size_bytes + NONCE_BYTES
        self._opener = stream.Opener(filekey.payload_key(file_key, nonce), source, start=start, size=size - start)

    @property
    def plaintext_size(self) -> int:
        """Length of the plaintext in bytes; the first call authenticates the end of the file.

        Raises:
            PayloadFailure: the file was cut or extended.
        """
        return self._opener.plaintext_size

    def read_at(self, offset: int, buffer: bytearray | memoryview) -> int:
        """Decrypt into the caller's buffer.

        Args:
            offset: in the plaintext, in bytes, not negative.
            buffer: writable; filled as far as the plaintext goes.

        Returns:
            The number of bytes filled, 0 at or beyond the end.

        Raises:
            PayloadFailure: a chunk, or the end, is not authentic. The buffer then holds no byte that isn't.
        """
        return self._opener.read_at(offset, buffer)

    def iter_chunks(self) -> Iterator[memoryview]:
        """Decrypt from front to back in pieces of at most 64 KiB, without looking at the end first.

        Yields:
            Plaintext in a reused buffer: valid until the next one is asked for.

        Raises:
            PayloadFailure: the file is damaged; what was yielded before is authentic, but is not the whole.
        """
        return self._opener.iter_chunks()

    def copy_to(self, out: BinaryIO) -> int:
        """Write the whole plaintext.

        Returns:
            Its length in bytes.

        Raises:
            PayloadFailure: the file is damaged; `out` then holds an authentic part that is not the whole.
        """
        size = 0
        for chunk in self.iter_chunks():
            stream.write_all(out, chunk)
            size += len(chunk)
        return size


def decrypt(ciphertext: bytes, identities: Sequence[Identity], *, limit_bytes: int) -> bytes:
    """Decrypt a value that fits into memory.

    Args:
        ciphertext: a whole age file.
        identities: tried in order.
        limit_bytes: the most plaintext to accept.

    Raises:
        AgeError: any failure of `Reader`, or `PayloadFailure` where there is more plaintext than the limit.
    """
    reader = Reader(io.BytesIO(ciphertext), identities, size=len(ciphertext))
    if reader.plaintext_size > limit_bytes:
        raise PayloadFailure(f"plaintext of {reader.plaintext_size} bytes, the limit is {limit_bytes}")
    out = io.BytesIO()
    reader.copy_to(out)
    return out.getvalue()


def _read_header(source: ReadAt, size: int) -> header.Header:
    wanted = _FIRST_READ_BYTES
    limit = min(size, header.MAX_HEADER_BYTES)
    while True:
        data = _read(source, 0, wanted, limit)
        end = header.find_end(data)
        if end is not None:
            return header.parse(data[:end])
        if wanted >= limit or len(data) < wanted:
            raise HeaderFailure(f"header has no end within {len(data)} bytes")
        wanted *= 8


def _read(source: ReadAt, offset: int, length: int, end: int) -> bytes:
    """Read up to `length` bytes, but none at or beyond the offset `end`."""
    data = bytearray(max(0, min(length, end - offset)))
    return bytes(data[: source(offset, memoryview(data))])
