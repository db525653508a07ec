"""Which way an embedding model of a hub is taken where the profile leaves it open: its own ONNX export, or converted.

What the lock pins stays, so that neither a newer program nor a file that was added changes vectors unasked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from bundler.format.errors import BadInput
from bundler.lock import Pin
from bundler.profile.model import EmbeddingEntry
from bundler.sources import hub
from bundler.sources.place import Place
from bundler.sources.source import HubSource, parse

WEIGHTS, MODULES, POOLING = "model.safetensors", "modules.json", "1_Pooling/config.json"
EXPORTS = ("onnx/model.onnx", "model.onnx")  # where sentence-transformers and Optimum put the one in fp32
_INSTEAD = 'precision = "auto" or "int8" converts model.safetensors instead, where it is of the BERT family'


def settled(entry: EmbeddingEntry, place: Place) -> EmbeddingEntry:
    """Returns the entry with the way that its model is taken, from the lock or from what the hub lists.

    Args:
        entry: What the profile says; it is returned as it is where that says the way.
        place: The cache and the pins; the hub is asked where they do not tell.

    Raises:
        BadInput: The source offers neither an export nor weights, or nothing says how the export is pooled.
        SourceFailed: The hub cannot be asked.
    """
    # Open is a folder of a hub only; that of a wheel is no source by itself.
    if not entry.is_open or not isinstance(source := parse(entry.source), HubSource):
        return entry
    if (known := pinned(entry, place.pins)) is not None:
        return known
    with hub.opened(place) as opened:
        listing = opened.listing(source)
    inside = {item.path.removeprefix(source.path) for item in listing.entries if item.path.startswith(source.path)}
    return choose(entry, inside)


def pinned(entry: EmbeddingEntry, pins: Mapping[str, Pin]) -> EmbeddingEntry | None:
    """Returns the entry as the lock has it, or None where it pins neither way, or both."""
    if not entry.is_open:
        return entry
    ways = [name for name in (*EXPORTS, WEIGHTS) if entry.source + name in pins]
    if len(ways) != 1:
        return None
    (way,) = ways
    told = f"{way} is what the lock pins"
    return _converted(entry, told) if way == WEIGHTS else replace(entry, onnx=way, why=f"{told}; {_INSTEAD}")


def choose(entry: EmbeddingEntry, inside: Collection[str]) -> EmbeddingEntry:
    """Decides by the names of the files in the model's folder; raises as `settled`."""
    export = next((name for name in EXPORTS if name in inside), "")
    if not export:
        if WEIGHTS not in inside:
            raise BadInput(
                f"{entry.source} has neither {WEIGHTS} nor {' nor '.join(EXPORTS)}",
                "onnx names an export that lies elsewhere in the folder; a model in other formats is not taken",
            )
        return _converted(entry, "the hub offers no ONNX export of it")
    if not entry.pooling and not {MODULES, POOLING} <= set(inside):
        raise BadInput(
            f"{entry.source} offers {export}, and neither {MODULES} with {POOLING} nor the profile says how it pools",
            f'write pooling = "mean", "cls" or "max" as the model\'s card says; {_INSTEAD}',
        )
    why = "the hub offers it, and the profile says neither onnx nor precision"
    return replace(entry, onnx=export, why=f"{export}: {why}" + (f"; {_INSTEAD}" if WEIGHTS in inside else ""))


def with_way_out(error: BadInput, entry: EmbeddingEntry) -> BadInput:
    """Returns the refusal of an export with what else can be done where nobody had asked for that export."""
    if not entry.is_open:
        return error
    return BadInput(error.fact, f"{error.hint}; {_INSTEAD}" if error.hint else _INSTEAD)


def _converted(entry: EmbeddingEntry, why: str) -> EmbeddingEntry:
    if entry.pooling:
        raise BadInput(
            f"{entry.name}: pooling is for an ONNX export, and {why}",
            "without the key pooling the model is converted, and says itself how it pools",
        )
    return replace(entry, why=why)
