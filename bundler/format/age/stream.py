"""STREAM: the payload of an age file in chunks of 64 KiB, bytes to bytes (C2SP age, "Payload").

Rules:
1. The nonce of a chunk is its number, 11 bytes big endian, and one byte that is 1 for the final chunk only.
2. The final chunk may be short, but is empty only where the whole payload is.
3. A size, and so any offset from the end, is trusted once the chunk at the end has opened as the final one.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from bundler.format.age.errors import PayloadFailure
from bundler.format.age.source import ReadAt

CHUNK_BYTES = 64 * 1024
TAG_BYTES = 16
SEALED_CHUNK_BYTES = CHUNK_BYTES + TAG_BYTES
_READ_CHUNKS = 16  # read at once: one call to the disk for a MiB


def chunk_nonce(index: int, *, last: bool) -> bytes:
    """The 12-byte nonce of chunk `index`, starting at 0."""
    return index.to_bytes(11, "big") + (b"\x01" if last else b"\x00")


def sealed_size(plaintext_bytes: int) -> int:
    """Length in bytes of the chunks that hold a plaintext, tags included."""
    chunks = max(1, -(-plaintext_bytes // CHUNK_BYTES))
    return plaintext_bytes + chunks * TAG_BYTES


@dataclass(frozen=True)
class Layout:
    """Where the chunks of a payload lie, from its length alone.

    Attributes:
        sealed_bytes: length of all chunks, tags included.
    """

    sealed_bytes: int

    @property
    def chunks(self) -> int:
        """How many there are, a damaged short one included."""
        return -(-self.sealed_bytes // SEALED_CHUNK_BYTES)

    @property
    def plaintext_bytes(self) -> int:
        """Length of the plaintext, where the layout is possible."""
        return self.sealed_bytes - self.chunks * TAG_BYTES

    def sealed_length(self, index: int) -> int:
        """Length in bytes of one chunk with its tag."""
        return min(SEALED_CHUNK_BYTES, self.sealed_bytes - index * SEALED_CHUNK_BYTES)

    def is_last(self, index: int) -> bool:
        """Whether nothing follows chunk `index`."""
        return index == self.chunks - 1

    def require_possible(self, index: int) -> None:
        """Refuse lengths that no writer produces.

        Raises:
            PayloadFailure: there is no chunk, or chunk `index` is too short.
        """
        shortest = TAG_BYTES if index == 0 else TAG_BYTES + 1  # rule 2
        if self.chunks == 0 or self.sealed_length(index) < shortest:
            raise PayloadFailure(f"payload of {self.sealed_bytes} bytes does not end in a whole chunk")


class Sink(Protocol):
    """Takes bytes, as a binary file does; it copies what it keeps."""

    def write(self, data: bytes | memoryview, /) -> int: ...


@runtime_checkable
class Lender(Sink, Protocol):
    """A sink that lends the memory to be filled, so that nothing is copied."""

    def lend(self, length: int, /) -> memoryview | None:
        """Return `length` bytes that count as written when the next call comes, or None to have `write` called."""


class Sealer:
    """Encrypts a payload from front to back through one reused buffer."""

    def __init__(self, key: bytes, out: Sink) -> None:
        """Begin a payload.

        Args:
            key: 32 bytes, used for this payload only.
            out: takes the chunks; must copy what it keeps, because the buffer is used again.
        """
        self._cipher = ChaCha20Poly1305(key)
        self._out = out
        self._index = 0
        self._held = memoryview(bytearray(CHUNK_BYTES))
        self._held_bytes = 0
        self._sealed = memoryview(bytearray(SEALED_CHUNK_BYTES))
        self._lend = out.lend if isinstance(out, Lender) else None
        self._usable = True

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Encrypt some more; up to one chunk is held back, since it may be the final one.

        Returns:
            The number of bytes taken, always all.

        Raises:
            ValueError: the payload is finished, or an earlier write failed.
        """
        self._begin()
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest:
            rest = rest[self._take(rest) :]
        self._usable = True
        return size

    def finish(self) -> None:
        """Write the final chunk.

        Raises:
            ValueError: the payload is finished, or an earlier write failed.
        """
        self._begin()
        self._seal(self._held[: self._held_bytes], last=True)

    def abandon(self) -> None:
        """Refuse to go on, so that what was written never authenticates as a whole file."""
        self._usable = False

    def _begin(self) -> None:
        if not self._usable:
            raise ValueError("the age file is finished, or failed before and can't be")
        # Stays so if writing raises: a file with a hole must not get a final chunk.
        self._usable = False

    def _take(self, rest: memoryview) -> int:
        if self._held_bytes == CHUNK_BYTES:
            self._seal(self._held, last=False)
            self._held_bytes = 0
        if self._held_bytes == 0 and len(rest) > CHUNK_BYTES:
            self._seal(rest[:CHUNK_BYTES], last=False)
            return CHUNK_BYTES
        count = min(len(rest), CHUNK_BYTES - self._held_bytes)
        self._held[self._held_bytes : self._held_bytes + count] = rest[:count]
        self._held_bytes += count
        return count

    def _seal(self, plain: memoryview, *, last: bool) -> None:
        length = len(plain) + TAG_BYTES
        lent = None if self._lend is None else self._lend(length)
        sealed = self._sealed[:length] if lent is None else lent
        self._cipher.encrypt_into(chunk_nonce(self._index, last=last), plain, None, sealed)
        self._index += 1
        if lent is None:
            write_all(self._out, sealed)


def write_all(out: Sink, data: memoryview | bytes) -> None:
    """Write everything, also to an unbuffered file, which may take less at a time.

    Raises:
        OSError: the file takes no more.
    """
    rest = memoryview(data)
    while rest:
        count = out.write(rest)
        if not count:
            raise OSError(f"{len(rest)} bytes could not be written")
        rest = rest[count:]


class _Scratch(threading.local):
    """Three buffers a thread, whatever the number of open files, and the one piece that `plain` holds."""

    def __init__(self) -> None:
        self.sealed = memoryview(bytearray(SEALED_CHUNK_BYTES))
        self.plain = memoryview(bytearray(CHUNK_BYTES))
        self.many: memoryview | None = None  # made by the first long read
        self.holds: tuple[object, int] | None = None


_scratch = _Scratch()


class Opener:
    """Decrypts a payload at any offset, from any number of threads."""

    def __init__(self, key: bytes, source: ReadAt, *, start: int, size: int) -> None:
        """Prepare to read; nothing is read yet.

        Args:
            key: the 32-byte payload key.
            source: the file.
            start: offset of the first chunk in bytes.
            size: length of all chunks in bytes.
        """
        self._cipher = ChaCha20Poly1305(key)
        self._source = source
        self._start = start
        self._layout = Layout(size)
        self._end_is_authentic = False
        self._token = object()

    @property
    def plaintext_size(self) -> int:
        """Length of the plaintext in bytes.

        Raises:
            PayloadFailure: what lies at the end is not the final chunk (rule 3).
        """
        if not self._end_is_authentic:
            index = max(0, self._layout.chunks - 1)
            self._layout.require_possible(index)
            self._piece(index)
            self._end_is_authentic = True
        return self._layout.plaintext_bytes

    def read_at(self, offset: int, buffer: bytearray | memoryview) -> int:
        """Decrypt into the caller's buffer; whole chunks go there without a copy.

        Args:
            offset: in the plaintext, in bytes, not negative.
            buffer: writable; filled as far as the plaintext goes.

        Returns:
            The number of bytes filled, 0 at or beyond the end.

        Raises:
            PayloadFailure: a chunk, or the end, is not authentic. The buffer then holds no byte that isn't.
        """
        if offset < 0:
            raise ValueError(f"negative offset {offset}")
        out = memoryview(buffer).cast("B")
        wanted = min(len(out), max(0, self.plaintext_size - offset))
        done = 0
        while done < wanted:
            index, skip = divmod(offset + done, CHUNK_BYTES)
            whole = min((wanted - done) // CHUNK_BYTES, _READ_CHUNKS) if skip == 0 else 0
            if whole > 1:
                done += self._fill_many(index, whole, out[done : done + whole * CHUNK_BYTES])
            else:
                done += self._fill(index, skip, out[done:wanted])
        return wanted

    def iter_chunks(self) -> Iterator[memoryview]:
        """Decrypt from front to back, one pass, without looking at the end first.

        Yields:
            Plaintext in a reused buffer: valid until the next one is asked for.

        Raises:
            PayloadFailure: a chunk is not authentic or the payload was cut or extended; what was yielded
                before is authentic, but is not the whole.
        """
        sealed = memoryview(bytearray(SEALED_CHUNK_BYTES))
        plain = memoryview(bytearray(CHUNK_BYTES))
        for index in range(max(1, self._layout.chunks)):
            self._layout.require_possible(index)
            piece = plain[: self._layout.sealed_length(index) - TAG_BYTES]
            last = self._layout.is_last(index)
            try:
                self._open(index, sealed, piece, last=last)
            except PayloadFailure:
                if len(piece) < CHUNK_BYTES:
                    raise
                # The vectors want a full chunk released that is authentic but has the wrong final mark.
                self._open(index, sealed, piece, last=not last)
                yield piece
                raise PayloadFailure(f"chunk {index}: the payload was cut or extended here") from None
            yield piece

    def _fill(self, index: int, skip: int, out: memoryview) -> int:
        length = self._layout.sealed_length(index) - TAG_BYTES
        if skip == 0 and len(out) >= length:
            self._open(index, _scratch.sealed, out[:length], last=self._layout.is_last(index))
            return length
        piece = self._piece(index)[skip : skip + len(out)]
        out[: len(piece)] = piece
        return len(piece)

    def _fill_many(self, index: int, count: int, out: memoryview) -> int:
        """Fills `out` with `count` full chunks, read at once."""
        if _scratch.many is None:
            _scratch.many = memoryview(bytearray(_READ_CHUNKS * SEALED_CHUNK_BYTES))
        sealed = _scratch.many[: count * SEALED_CHUNK_BYTES]
        read = self._source(self._start + index * SEALED_CHUNK_BYTES, sealed)
        for number in range(count):
            part = sealed[number * SEALED_CHUNK_BYTES : min(read, (number + 1) * SEALED_CHUNK_BYTES)]
            plain = out[number * CHUNK_BYTES : (number + 1) * CHUNK_BYTES]
            self._decrypt(index + number, part, plain, last=self._layout.is_last(index + number))
        return len(out)

    def _piece(self, index: int) -> memoryview:
        """One chunk, in this thread's scratch buffer."""
        piece = _scratch.plain[: self._layout.sealed_length(index) - TAG_BYTES]
        if _scratch.holds != (self._token, index):
            _scratch.holds = None
            self._open(index, _scratch.sealed, piece, last=self._layout.is_last(index))
            _scratch.holds = (self._token, index)
        return piece

    def _open(self, index: int, sealed: memoryview, plain: memoryview, *, last: bool) -> None:
        """Read chunk `index` through the buffer `sealed` and decrypt it into `plain`, which has its size."""
        sealed = sealed[: len(plain) + TAG_BYTES]
        count = self._source(self._start + index * SEALED_CHUNK_BYTES, sealed)
        self._decrypt(index, sealed[:count], plain, last=last)

    def _decrypt(self, index: int, sealed: memoryview, plain: memoryview, *, last: bool) -> None:
        if len(sealed) != len(plain) + TAG_BYTES:
            raise PayloadFailure(f"chunk {index}: the file ends inside it")
        try:
            self._cipher.decrypt_into(chunk_nonce(index, last=last), sealed, None, plain)
        except InvalidTag:
            # decrypt_into has already written plaintext that nobody vouches for.
            plain[:] = bytes(len(plain))
            raise PayloadFailure(f"chunk {index}: authentication failed") from None
