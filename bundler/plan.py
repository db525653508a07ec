"""What a build will do: pure, from the profile, the lock and what the sources delivered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bundler.format.padding import padme
from bundler.lock import Lock, Pin, PinnedPart

NO_SELFTEST = (
    "there is no [selftest]: nothing shows that questions are answered rightly, or that those which the content cannot "
    "answer are declined (docs/profile.md)"
)
# What the vectors, sentences and indexes of a text add to it. Measured on the demo: documents grow 23-fold, the FAQ
# 22-fold, routes 15-fold (384 dimensions).
TEXT_GROWTH = 23
# Between the licences that a source and its file declare, where they differ.
BOTH = " + "
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
        text_bytes: How much of it is plain text that gets vectors.
        resolved: What a branch or a tag stood for.
        parts: The remote files that it was made of, where it is not one of them as it came; of a registry what is
            attached to it.
        declared: The licence that the source itself states, or ""; where its file states another, both (`BOTH`).
        facts: What a model file says of itself, by name.
        titles: The licences whose titles stand in the text of its licence (`models.licence_text`).
        signature: Whose signature of it was checked, and how; "" where none was asked for.
    """

    part: str
    source: str
    length_bytes: int
    sha256: str
    licence: str
    licence_text: bool = False
    text_bytes: int = 0
    resolved: str = ""
    parts: tuple[PinnedPart, ...] = ()
    declared: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    signature: str = ""
    titles: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlanLine:
    """One source in the plan; `state` is "new", "pinned", "local", or "live" for a running store."""

    found: Found
    state: str


@dataclass(frozen=True)
class Plan:
    """What goes into the bundle, in order, and about how large it becomes (bytes on the medium).

    Attributes:
        embedding: In which precision the embedding model goes in, and why; "" where there is none.
        warnings: What the bundle will lack.
        outgoing: What leaves the building of the box's requests (`bundler.outgoing`).
        tier: The hardware tier, and what its models need there; "" for none.
        stores: What each vector store says of itself.
        templates: What is to be looked at in chat templates, and what changed in them.
        refused: What `[licences]` refuses; `build` stops there.
        mismatched: Vector stores that another embedding model made, by their dimensions; `build` stops there.
        contradictions: Where the source, or the text of the licence, says another licence than the profile.
    """

    profile: str
    lines: tuple[PlanLine, ...]
    source_bytes: int
    medium_bytes: int
    unlicensed: tuple[str, ...]
    without_text: tuple[str, ...]
    embedding: str = ""
    warnings: tuple[str, ...] = ()
    outgoing: tuple[str, ...] = ()
    tier: str = ""
    stores: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    contradictions: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()


@dataclass(frozen=True)
class Embedding:
    """The embedding model as it goes in: why in this precision, and its size, which is not that of its sources."""

    reason: str
    length_bytes: int


def make_plan(
    profile: str,
    found: Sequence[Found],
    lock: Lock,
    volume_bytes: int,
    embedding: Embedding | None = None,
    *,
    selftest: bool = True,
) -> Plan:
    """Decides order, sizes and what is new.

    Args:
        profile: Its name.
        found: What the sources delivered.
        lock: What they were before.
        volume_bytes: Plaintext size of a full volume.
        embedding: The converted embedding model, or None.
        selftest: Whether the profile has one.
    """
    lines = tuple(PlanLine(item, _state(item, lock)) for item in sorted(found, key=_order))
    source_bytes = sum(item.length_bytes for item in found)
    return Plan(
        profile,
        lines,
        source_bytes,
        estimate_medium_bytes(shipped_bytes(found, embedding), volume_bytes),
        tuple(item.source for item in found if not item.licence and item.part in ("model", "embedding")),
        tuple(item.source for item in found if not item.licence_text and _is_weights(item)),
        embedding.reason if embedding is not None else "",
        () if selftest else (NO_SELFTEST,),
    )


def shipped_bytes(found: Sequence[Found], embedding: Embedding | None) -> int:
    """Returns about what goes into the volumes: the embedding model as converted, and texts with their vectors."""
    kept = sum(item.length_bytes for item in found if embedding is None or item.part != "embedding")
    grown = sum(item.text_bytes for item in found) * TEXT_GROWTH
    return kept + grown + (embedding.length_bytes if embedding is not None else 0)


def estimate_medium_bytes(source_bytes: int, volume_bytes: int) -> int:
    """Returns about what the volumes of so many plaintext bytes take, padding included."""
    full, rest = divmod(source_bytes, volume_bytes)
    plaintext = full * volume_bytes + min(padme(rest), volume_bytes)
    return plaintext + (plaintext // _PIECE_BYTES + 1) * _TAG_BYTES + _AGE_HEADER_BYTES * (full + 1)


def pins(found: Iterable[Found]) -> dict[str, Pin]:
    """Returns the pins of what came from elsewhere; local files are meant to change."""
    remote = (item for item in found if not item.source.startswith("file:"))
    return {item.source: Pin(item.length_bytes, item.sha256, item.resolved, item.parts) for item in remote}


def _is_weights(item: Found) -> bool:
    return item.part == "model" or (item.part == "embedding" and item.source.endswith((".safetensors", ".onnx")))


def _order(item: Found) -> tuple[int, str]:
    """Large and rarely changed parts first, so that a refresh rewrites the tail only."""
    parts = ("image", "model", "embedding", "documents", "vectors", "faq", "router", "selftest")
    return (parts.index(item.part), item.source)


def _state(item: Found, lock: Lock) -> str:
    if item.source.startswith("file:"):
        return "local"
    if item.part == "vectors":
        return "live"
    return "pinned" if item.source in lock.pins else "new"
