"""What a build will do: pure, from the profile, the lock and what the sources delivered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bundler.format.padding import padme
from bundler.lock import Lock, Pin

# age adds a header of about 200 bytes and 16 bytes for every 64 KiB (C2SP age, "Payload").
_AGE_HEADER_BYTES, _PIECE_BYTES, _TAG_BYTES = 200, 65_536, 16


@dataclass(frozen=True)
class Found:
    """What a source delivered, and which part of the profile asked for it.

    Attributes:
        part: "model", "embedding", "documents" and so on.
        source: As the profile writes it.
        length_bytes: Its size.
        sha256: Its digest; "" for local files.
        licence: SPDX identifier, or "".
        licence_text: Whether the text of the licence goes into the bundle with it.
    """

    part: str
    source: str
    length_bytes: int
    sha256: str
    licence: str
    licence_text: bool = False


@dataclass(frozen=True)
class PlanLine:
    """One source in the plan; `state` is "new", "pinned" or "local"."""

    found: Found
    state: str


@dataclass(frozen=True)
class Plan:
    """What goes into the bundle, in order, and about how large it becomes (bytes on the medium).

    Attributes:
        embedding: In which precision the embedding model goes in, and why; "" where there is none.
    """

    profile: str
    lines: tuple[PlanLine, ...]
    source_bytes: int
    medium_bytes: int
    unlicensed: tuple[str, ...]
    without_text: tuple[str, ...]
    embedding: str = ""


def make_plan(profile: str, found: Sequence[Found], lock: Lock, volume_bytes: int, embedding: str = "") -> Plan:
    """Decides order, sizes and what is new."""
    lines = tuple(PlanLine(item, _state(item, lock)) for item in sorted(found, key=_order))
    source_bytes = sum(item.length_bytes for item in found)
    return Plan(
        profile,
        lines,
        source_bytes,
        estimate_medium_bytes(source_bytes, volume_bytes),
        tuple(item.source for item in found if not item.licence and item.part in ("model", "embedding")),
        tuple(item.source for item in found if not item.licence_text and _is_weights(item)),
        embedding,
    )


def estimate_medium_bytes(source_bytes: int, volume_bytes: int) -> int:
    """Returns about what the volumes of so many plaintext bytes take, padding included."""
    full, rest = divmod(source_bytes, volume_bytes)
    plaintext = full * volume_bytes + min(padme(rest), volume_bytes)
    return plaintext + (plaintext // _PIECE_BYTES + 1) * _TAG_BYTES + _AGE_HEADER_BYTES * (full + 1)


def pins(found: Iterable[Found]) -> dict[str, Pin]:
    """Returns the pins of what came from elsewhere; local files are meant to change."""
    return {item.source: Pin(item.length_bytes, item.sha256) for item in found if not item.source.startswith("file:")}


def _is_weights(item: Found) -> bool:
    return item.part == "model" or (item.part == "embedding" and item.source.endswith(".safetensors"))


def _order(item: Found) -> tuple[int, str]:
    """Large and rarely changed parts first, so that a refresh rewrites the tail only."""
    parts = ("model", "embedding", "documents", "faq", "router", "selftest")
    return (parts.index(item.part), item.source)


def _state(item: Found, lock: Lock) -> str:
    if item.source.startswith("file:"):
        return "local"
    return "pinned" if item.source in lock.pins else "new"
