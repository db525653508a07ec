"""Reads one file of a layer that is a tar archive; runs in the confined child of `artifact`.

Nothing is extracted but that file, into an open descriptor: no path of the archive ever names anything of ours. An
archive that tries what only an attack needs is refused whole: a sound one is packed anew in a minute.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Mapping
from typing import IO, Any

from bundler.format import paths
from bundler.format.errors import BadBundle, BadInput
from bundler.format.limits import MIB

MEMBERS = 100_000
RATIO = 200  # deflate reaches about 1000 on zeros; weights stay near 1
_SEEN = 64
_GZIP_WINDOW = 31  # zlib.h: 15 bits, and a gzip header


def extract(
    request: Mapping[str, Any], inputs: Mapping[str, IO[bytes]], outputs: Mapping[str, IO[bytes]]
) -> bool | list[str]:
    """Copies `request["member"]` of the input `layer` to the output `member`; returns True, or some names it holds.

    Raises:
        BadInput: Not a tar archive, a packing that is not read, a bomb, or an entry that no sound archive has.
    """
    layer = _unpacked(inputs["layer"], request["packing"])
    found, names = False, []
    try:
        with tarfile.open(fileobj=layer, mode="r|", errorlevel=2) as archive:
            for number, entry in enumerate(archive):
                if number >= MEMBERS:
                    raise BadInput(f"the layer has more than {MEMBERS} entries")
                name = _checked(entry)
                if not entry.isreg():
                    continue
                if name == request["member"]:
                    if found:
                        raise BadInput(f"the layer holds {name} twice")
                    _copy(archive, entry, outputs["member"], request["limit_bytes"])
                    found = True
                names.append(name)
        while layer.read(MIB):
            pass  # to its end: a gzip stream is sound only then
    except (tarfile.TarError, EOFError, zlib.error, ValueError, OverflowError) as error:
        raise BadInput(f"the layer is not a readable tar archive: {error}") from error
    return True if found else names[:_SEEN]


def _unpacked(layer: IO[bytes], packing: str) -> Any:
    if packing == "tar":
        return layer
    if packing == "tar+gzip":
        return _Inflating(layer)
    raise BadInput(f"layers packed as {packing} are not read", "pack the artifact as tar, tar+gzip or raw")


def _checked(entry: tarfile.TarInfo) -> str:
    """Returns the name of an entry that may be there: a file or a folder, within the archive."""
    name = entry.name.removeprefix("./").rstrip("/")
    if entry.isdir() and name in ("", "."):
        return ""
    kinds = ((entry.issym(), "a symbolic link"), (entry.islnk(), "a hard link"), (entry.isdev(), "a device or a FIFO"))
    if told := [word for true, word in kinds if true]:
        raise BadInput(f"the layer's {entry.name!r} is {told[0]}: only files and folders are read")
    if entry.issparse():
        raise BadInput(f"the layer's {entry.name!r} is a sparse file, which may be larger than any disk")
    if not (entry.isreg() or entry.isdir()):
        raise BadInput(f"the layer's {entry.name!r} is of an unknown type, {entry.type!r}")
    if name.startswith("/") or ".." in name.split("/") or not name.isprintable():
        raise BadInput(f"the layer's {entry.name!r} leaves its folder")
    return name


def _copy(archive: tarfile.TarFile, entry: tarfile.TarInfo, target: IO[bytes], limit_bytes: int) -> None:
    try:
        paths.check(entry.name.removeprefix("./"))
    except BadBundle as error:
        raise BadInput(error.fact) from error
    if entry.size > limit_bytes:
        raise BadInput(f"{entry.name} has {entry.size} bytes, at most {limit_bytes} are read")
    file = archive.extractfile(entry)
    length = 0
    while file is not None and (block := file.read(MIB)):
        length += len(block)
        target.write(block)
    if length != entry.size:
        raise BadInput(f"{entry.name} has {length} bytes, the archive declares {entry.size}")


class _Inflating:
    """A gzip file as it is read, which may not grow beyond RATIO; what stands behind its end is refused."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._inflate = zlib.decompressobj(_GZIP_WINDOW)
        self._ready = b""
        self._in = self._out = 0

    def read(self, size: int) -> bytes:
        """Returns so many bytes, fewer at the end."""
        while len(self._ready) < size and self._more():
            if self._out > RATIO * self._in + MIB:
                raise BadInput(f"the layer would grow from {self._in} to more than {self._out} bytes")
        data, self._ready = self._ready[:size], self._ready[size:]
        return data

    def _more(self) -> bool:
        """Inflates one piece; False at the end."""
        if self._inflate.eof:
            if self._inflate.unused_data or self._file.read(1):
                raise BadInput("something stands behind the end of the layer's gzip stream")
            return False
        held = self._inflate.unconsumed_tail
        data = held or self._file.read(64 * 1024)
        self._in += 0 if held else len(data)
        if not data:
            raise BadInput("the layer's gzip stream ends too early")
        piece = self._inflate.decompress(data, MIB)
        self._out += len(piece)
        self._ready += piece
        return True
