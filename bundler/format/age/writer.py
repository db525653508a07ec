"""Writing age files: the header and the payload joined."""

import io
import secrets
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from bundler.format.age import filekey, header, stream
from bundler.format.age.recipients import Recipient, wrap_all

NONCE_BYTES = 16


class Writer:
    """Encrypts one file from front to back.

    As a context manager it finishes the file, unless an exception leaves the block: half a file never
    authenticates.

    Attributes:
        header_bytes: length of the header, without the payload nonce.
    """

    def __init__(self, out: stream.Sink, recipients: Sequence[Recipient]) -> None:
        """Write header and nonce.

        Args:
            out: takes the ciphertext; must copy what it keeps. It is not closed here.
            recipients: who can open the file; one passphrase, or keys of one kind.

        Raises:
            ValueError: these recipients don't share a file.
            HeaderFailure: more recipients than a header may hold.
        """
        file_key, nonce = filekey.generate(), secrets.token_bytes(NONCE_BYTES)
        unsigned = header.encode_unsigned(wrap_all(recipients, file_key))
        encoded = unsigned + header.encode_end(filekey.header_mac(file_key, unsigned))
        self.header_bytes = len(encoded)
        self._closed = False
        self._sealer = stream.Sealer(filekey.payload_key(file_key, nonce), out)
        stream.write_all(out, encoded + nonce)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Encrypt some more.

        Returns:
            The number of bytes taken, always all.

        Raises:
            ValueError: the file is finished, or an earlier write failed.
        """
        return self._sealer.write(data)

    def close(self) -> None:
        """Write the final chunk; once that is done, do nothing.

        Raises:
            ValueError: an earlier write or an exception in the block ended the file without a final chunk.
        """
        if not self._closed:
            self._sealer.finish()
            self._closed = True

    def __enter__(self) -> Self:
        """Give the writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file, or leave it without a final chunk where an exception passes."""
        if kind is None:
            self.close()
        else:
            self._sealer.abandon()


def encrypt(plaintext: bytes, recipients: Sequence[Recipient]) -> bytes:
    """Encrypt a value that fits into memory.

    Raises:
        ValueError: these recipients don't share a file.
    """
    out = io.BytesIO()
    with Writer(out, recipients) as writer:
        writer.write(plaintext)
    return out.getvalue()


def encrypted_size(plaintext_bytes: int, recipients_header_bytes: int) -> int:
    """Length in bytes of a file.

    Args:
        plaintext_bytes: length of the plaintext.
        recipients_header_bytes: length of the header, from `header_size` or `Writer.header_bytes`.
    """
    return recipients_header_bytes + NONCE_BYTES + stream.sealed_size(plaintext_bytes)
