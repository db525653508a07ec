"""Checks the chunks of one volume while its plaintext passes by once, from front to back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from bundler.format import age
from bundler.format.age.errors import AgeError
from bundler.format.errors import BadBundle
from bundler.format.index import Asset, Chunk
from bundler.format.manifest import Volume

if TYPE_CHECKING:
    from hashlib import _Hash


@dataclass(frozen=True)
class Passage:
    """What is to be found in one volume.

    Attributes:
        volume: From the verified descriptor.
        chunks: Those that the bundle's assets use, by offset, each once.
    """

    volume: Volume
    chunks: tuple[Chunk, ...]

    def stamp(self) -> str:
        """Returns what stands for these chunks: equal stamps of one volume ask for equal bytes at equal places."""
        lines = (f"{chunk.offset} {chunk.length} {chunk.sha256}\n" for chunk in self.chunks)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def check(self, file: BinaryIO, secret: str) -> None:
        """Decrypts the whole volume and checks every chunk of it; nothing is parsed but its age header.

        Args:
            file: The ciphertext, readable and seekable; read once, in order.
            secret: The age identity that opens it.

        Raises:
            BadBundle: A chunk is not what was signed, or the volume does not open.
        """
        path = self.volume.path
        try:
            reader = age.Reader(file, [age.parse_identity(secret)], size=self.volume.length_bytes)
            check_pieces(self.chunks, reader.iter_chunks(), path)
        except AgeError as error:
            raise BadBundle(f"{path} is damaged: {error}") from error


def passages(volumes: Sequence[Volume], assets: Iterable[Asset]) -> tuple[Passage, ...]:
    """Returns, for each volume, the chunks that are to be found in it."""
    found: Mapping[int, set[Chunk]] = {number: set() for number in range(len(volumes))}
    for asset in assets:
        for chunk in asset.chunks:
            found[chunk.volume].add(chunk)
    return tuple(Passage(volume, _in_order(found[number])) for number, volume in enumerate(volumes))


def _in_order(chunks: Iterable[Chunk]) -> tuple[Chunk, ...]:
    return tuple(sorted(chunks, key=lambda chunk: (chunk.offset, chunk.length)))


def check_pieces(chunks: Sequence[Chunk], pieces: Iterable[memoryview], path: str) -> None:
    """Checks chunks against plaintext that comes piece by piece.

    Args:
        chunks: By offset; they may overlap.
        pieces: The whole plaintext in order; each is valid until the next one is asked for.
        path: Of the volume, for messages.

    Raises:
        BadBundle: A chunk is not what was signed, or reaches beyond the end.
    """
    waiting = list(reversed(chunks))
    under_way: list[tuple[Chunk, _Hash]] = []
    start = 0
    for piece in pieces:
        end = start + len(piece)
        while waiting and waiting[-1].offset < end:
            under_way.append((waiting.pop(), hashlib.sha256()))
        for chunk, digest in under_way:
            digest.update(piece[max(0, chunk.offset - start) : chunk.offset + chunk.length - start])
        ended = [(chunk, digest) for chunk, digest in under_way if chunk.offset + chunk.length <= end]
        for chunk, digest in ended:
            if digest.hexdigest() != chunk.sha256:
                raise BadBundle(f"chunk {chunk.sha256[:12]} at byte {chunk.offset} of {path} is not what was signed")
        if ended:
            under_way = [(chunk, digest) for chunk, digest in under_way if chunk.offset + chunk.length > end]
        start = end
    if waiting or under_way:
        raise BadBundle(f"{path} ends at byte {start}, before its last chunk does")
