"""Reads assets out of encrypted volumes: every chunk is checked against its signed digest on every read."""

from __future__ import annotations

import hashlib
import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from bundler.files import open_regular
from bundler.format import age, paths
from bundler.format.age.errors import AgeError
from bundler.format.errors import BadBundle, FileMissing, WrongKey
from bundler.format.index import Asset, Chunk
from bundler.format.limits import WHOLE_ASSET_BYTES
from bundler.format.manifest import Descriptor, Volume

# llama.cpp's loader returns to the header between tensors: one chunk kept would be decrypted three times over.
_KEPT_CHUNKS = 4


class Volumes:
    """The open volumes of one bundle.

    Args:
        root: Folder of the repository, on the medium or in the store.
        descriptor: The bundle's verified descriptor.
        identities: Secret age identities by recipient, from `keys.age`.

    Attributes:
        root, identities: As given; what another process needs to open the same.
    """

    def __init__(self, root: Path, descriptor: Descriptor, identities: Mapping[str, str]) -> None:
        self.root, self._descriptor, self.identities = root, descriptor, identities
        self._open: dict[int, age.Reader] = {}
        self._files = ExitStack()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Closes the volumes; readers of assets are of no use after it."""
        self._files.close()

    def read_chunk(self, chunk: Chunk, buffer: memoryview) -> None:
        """Decrypts one chunk into `buffer`, which has exactly its length, and checks its digest.

        Raises:
            BadBundle: The volume or the chunk is not what was signed; the message names both.
        """
        volume = self._descriptor.volumes[chunk.volume]
        try:
            count = self._reader(chunk.volume, volume).read_at(chunk.offset, buffer)
        except (AgeError, OSError) as error:
            raise BadBundle(f"{volume.path} is damaged near byte {chunk.offset}: {error}") from error
        if count != chunk.length or hashlib.sha256(buffer).hexdigest() != chunk.sha256:
            raise BadBundle(f"chunk {chunk.sha256[:12]} at byte {chunk.offset} of {volume.path} is not what was signed")

    def _reader(self, number: int, volume: Volume) -> age.Reader:
        with self._lock:
            if number not in self._open:
                self._open[number] = self._open_volume(volume)
            return self._open[number]

    def _open_volume(self, volume: Volume) -> age.Reader:
        secret = self.identities.get(volume.recipient)
        if secret is None:
            raise WrongKey(f"no key of this site opens {volume.path}")
        path = paths.inside(self.root, volume.path)
        try:
            file = open_regular(path)
        except FileMissing:
            raise FileMissing(f"{volume.path} is missing") from None
        try:
            reader = age.Reader(file, [age.parse_identity(secret)], size=os.fstat(file.fileno()).st_size)
        except BaseException:
            file.close()
            raise
        self._files.enter_context(file)
        return reader


class AssetReader:
    """Random access to one asset's plaintext. Safe to share between threads.

    Attributes:
        size: Length in bytes.
        starts: Where its chunks begin; reading a whole chunk decrypts into the caller's buffer, beside other readers.
    """

    def __init__(self, asset: Asset, volumes: Volumes) -> None:
        self.asset = asset
        self.size = asset.length_bytes
        self._volumes = volumes
        self.starts = _starts(asset)
        self._kept: OrderedDict[int, bytearray] = OrderedDict()
        self._lock = threading.Lock()

    def read_at(self, offset: int, buffer: memoryview) -> int:
        """Fills `buffer` from byte `offset`; returns how many bytes there were (less only at the end).

        Raises:
            BadBundle: A chunk is not what was signed.
        """
        done = 0
        while done < len(buffer) and offset + done < self.size:
            number = bisect_right(self.starts, offset + done) - 1
            start = offset + done - self.starts[number]
            count = min(len(buffer) - done, self.asset.chunks[number].length - start)
            part = buffer[done : done + count]
            if count == self.asset.chunks[number].length:
                self._volumes.read_chunk(self.asset.chunks[number], part)
            else:
                with self._lock:
                    part[:] = memoryview(self._chunk(number))[start : start + count]
            done += count
        return done

    def read_all(self) -> bytes:
        """Returns the whole asset, for what is small or parsed at once; its own digest is checked where it has one."""
        if self.size > WHOLE_ASSET_BYTES:
            raise BadBundle(f"{self.asset.path} has {self.size} bytes, at most {WHOLE_ASSET_BYTES} are read at once")
        data = bytearray(self.size)
        view, offset = memoryview(data), 0
        for chunk in self.asset.chunks:
            self._volumes.read_chunk(chunk, view[offset : offset + chunk.length])
            offset += chunk.length
        if self.asset.sha256 and hashlib.sha256(data).hexdigest() != self.asset.sha256:
            raise BadBundle(f"{self.asset.path} is not what was signed: its chunks are, its order is not")
        return bytes(data)

    def _chunk(self, number: int) -> bytearray:
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._kept[number]
        chunk = self.asset.chunks[number]
        # The oldest buffer is used again: fresh large ones cost more than the cipher (page faults).
        spare = self._kept.popitem(last=False)[1] if len(self._kept) >= _KEPT_CHUNKS else bytearray()
        data = spare if len(spare) == chunk.length else bytearray(chunk.length)
        self._volumes.read_chunk(chunk, memoryview(data))
        self._kept[number] = data
        return data


def _starts(asset: Asset) -> tuple[int, ...]:
    starts, offset = [], 0
    for chunk in asset.chunks:
        starts.append(offset)
        offset += chunk.length
    return tuple(starts) or (0,)
