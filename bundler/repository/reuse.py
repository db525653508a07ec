"""Which volumes of earlier bundles a new bundle uses again: pure, from what they hold and what is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from bundler.format.index import Asset, Chunk, Index
from bundler.format.manifest import Descriptor, Volume

# A volume less than half of which is still wanted is not carried along: its live chunks are written again.
_LEAST_LIVE = 0.5


@dataclass(frozen=True)
class Earlier:
    """A bundle whose volumes may be used again."""

    descriptor: Descriptor
    index: Index


@dataclass(frozen=True)
class Reuse:
    """Volumes to use again, and the chunks in them by digest; `Chunk.volume` counts in `volumes`."""

    volumes: tuple[Volume, ...]
    chunks: Mapping[str, Chunk]

    def chunk(self, sha256: str) -> Chunk | None:
        return self.chunks.get(sha256)


NOTHING = Reuse((), {})


def none_of(asset: Asset) -> bool:  # noqa: ARG001
    """No asset is unwanted."""
    return False


def choose(earlier: Sequence[Earlier], wanted: Mapping[str, int], unwanted: Callable[[Asset], bool] = none_of) -> Reuse:
    """Chooses volumes, those with the largest live share first; a chunk that two volumes hold counts once.

    Args:
        earlier: Bundles of this repository and of base repositories.
        wanted: Length in bytes of every chunk of the new bundle, by digest.
        unwanted: Whether a volume that holds this asset must not travel again: a volume travels whole.
    """
    held = _held(earlier)
    for path in _holding(earlier, unwanted):
        del held[path]
    missing = dict(wanted)
    kept: list[Volume] = []
    chunks: dict[str, Chunk] = {}
    for volume, content in sorted(held.values(), key=lambda item: -_live(item[1], wanted) / item[0].length_bytes):
        live = [chunk for chunk in content.values() if missing.get(chunk.sha256) == chunk.length]
        if sum(chunk.length for chunk in live) < _LEAST_LIVE * volume.length_bytes:
            continue
        for chunk in live:
            del missing[chunk.sha256]
            chunks[chunk.sha256] = Chunk(chunk.sha256, len(kept), chunk.offset, chunk.length)
        kept.append(volume)
    return Reuse(tuple(kept), chunks)


def _held(earlier: Iterable[Earlier]) -> dict[str, tuple[Volume, dict[str, Chunk]]]:
    """Returns each volume by path with its known chunks by digest."""
    held: dict[str, tuple[Volume, dict[str, Chunk]]] = {}
    for bundle in earlier:
        for asset in bundle.index.assets:
            for chunk in asset.chunks:
                volume = bundle.descriptor.volumes[chunk.volume]
                held.setdefault(volume.path, (volume, {}))[1].setdefault(chunk.sha256, chunk)
    return held


def _holding(earlier: Iterable[Earlier], unwanted: Callable[[Asset], bool]) -> set[str]:
    """Returns the paths of the volumes in which chunks of an unwanted asset stand."""
    return {
        bundle.descriptor.volumes[chunk.volume].path
        for bundle in earlier
        for asset in bundle.index.assets
        if unwanted(asset)
        for chunk in asset.chunks
    }


def _live(content: Mapping[str, Chunk], wanted: Mapping[str, int]) -> int:
    return sum(chunk.length for chunk in content.values() if wanted.get(chunk.sha256) == chunk.length)
