"""Writes the assets of a bundle out as plain files: every chunk checked, several at once, in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local

from bundler.files import make_folder, staged
from bundler.format.bundle import Bundle
from bundler.format.errors import BadInput, Busy
from bundler.format.index import Asset, Chunk

_FLUSH_BYTES = 64 << 20


def export(
    bundle: Bundle, folder: Path, wanted: Collection[str], on_bytes: Callable[[int], None], threads: int
) -> list[Path]:
    """Writes assets under `folder` by their own paths; returns the files.

    Args:
        bundle: Open.
        folder: Made if it is new.
        wanted: Paths of assets; all if empty.
        on_bytes: Hears the bytes written.
        threads: How many chunks are opened at once; each holds one chunk in memory.

    Raises:
        BadInput: The bundle has no such asset.
        Busy: A file is there already; none is written over.
        BadBundle: A chunk is not what was signed; nothing of its asset appears.
    """
    chosen = [asset for asset in bundle.index.assets if not wanted or asset.path in wanted]
    if unknown := set(wanted) - {asset.path for asset in chosen}:
        raise BadInput(f"the bundle holds no {', '.join(sorted(unknown))}", "see `lifeboat inspect --contents`")
    if there := [asset.path for asset in chosen if (folder / asset.path).exists()]:
        raise Busy(f"{folder / there[0]} is there already", "name a new folder")
    with ThreadPoolExecutor(threads) as pool:
        return [_write(bundle, asset, folder / asset.path, on_bytes, pool) for asset in chosen]


def _write(
    bundle: Bundle, asset: Asset, target: Path, on_bytes: Callable[[int], None], pool: ThreadPoolExecutor
) -> Path:
    kept = local()
    make_folder(target.parent)
    with staged(target, mode=0o600) as file:
        descriptor = file.fileno()

        def put(place: tuple[int, Chunk]) -> int:
            offset, chunk = place
            buffer: bytearray = getattr(kept, "buffer", bytearray())
            if len(buffer) < chunk.length:
                kept.buffer = buffer = bytearray(chunk.length)
            view = memoryview(buffer)[: chunk.length]
            bundle.volumes.read_chunk(chunk, view)
            done = 0
            while done < chunk.length:
                done += os.pwrite(descriptor, view[done:], offset + done)
            on_bytes(chunk.length)
            return chunk.length

        with ThreadPoolExecutor(1) as flusher:
            unflushed, flushes = 0, []
            for length in pool.map(put, _places(asset)):
                unflushed += length
                if unflushed >= _FLUSH_BYTES:  # on its way while more is opened: the last sync waits for little
                    unflushed = 0
                    flushes.append(flusher.submit(os.fdatasync, descriptor))
            for flushed in flushes:  # the last sync would not tell again what one of these met
                flushed.result()
    return target


def _places(asset: Asset) -> list[tuple[int, Chunk]]:
    offset, found = 0, []
    for chunk in asset.chunks:
        found.append((offset, chunk))
        offset += chunk.length
    return found
