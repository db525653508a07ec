"""Whether a snapshot of a vector store answers as the store did: the same queries, at build and again on the box."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bundler.format.errors import BadBundle
from bundler.format.service import Service
from bundler.knowledge.assets import Read, read_lines
from bundler.knowledge.base import KnowledgeBase
from bundler.knowledge.reading import Embeds, Vectors
from bundler.knowledge.stored import Stored

# What two machines may differ by in a score, as a share of `Stored.scale`: below it the order says nothing.
TIE_VECTOR, TIE_TEXT = 1e-5, 2e-2
# The least share of the expected rows that must come back. A stored vector is asked as it is; a text is embedded first,
# and processors differ in the last bits of that, which an integer graph makes larger.
PERCENT_VECTOR, PERCENT_TEXT = 100, 90


@dataclass(frozen=True)
class Asked:
    """A query and its answer: a row of the store, or a text; the ids that are nearest, and their scores."""

    row: int | None
    text: str
    ids: tuple[str, ...]
    scores: tuple[float, ...]


def share(asked: Asked, found: Stored, places: Mapping[str, int], query: Vectors) -> float:
    """Returns which share of the expected rows comes back: among the nearest, or tied with the last, and as near.

    Args:
        asked: The query, with what is expected.
        found: What is searched.
        places: The row of each id.
        query: Its vector.
    """
    scores, wanted = found.scores(query), len(asked.ids)
    least = np.partition(scores, -wanted)[-wanted] if wanted <= len(scores) else -np.inf
    held = 0
    for name, expected in zip(asked.ids, asked.scores, strict=True):
        row = places.get(name)
        if row is None:
            continue
        room = (TIE_VECTOR if asked.row is not None else TIE_TEXT) * found.scale(query, row)
        held += bool(abs(scores[row] - expected) <= room and scores[row] >= least - room)
    return held / wanted


def differences(name: str, questions: Sequence[Asked], found: Stored, encoder: Embeds) -> list[str]:
    """Asks again; returns a line for each kind of query that comes back with too little.

    Args:
        name: Of the collection.
        questions: As `read_asked` returns them.
        found: What the box searches.
        encoder: The embedding model.
    """
    vectors = [item for item in questions if item.row is not None]
    texts = [item for item in questions if item.row is None]
    places = {name: row for row, name in enumerate(found.ids)}
    shares = [share(item, found, places, found.row(item.row)) for item in vectors if item.row is not None]
    embedded = encoder.embed([item.text for item in texts]) if texts else np.zeros((0, 1), np.float32)
    told = [share(item, found, places, query) for item, query in zip(texts, embedded, strict=True)]
    kinds = (("stored vectors", shares, PERCENT_VECTOR), ("texts", told, PERCENT_TEXT))
    return [
        f"{name}: {len(values)} {kind} get {100 * sum(values) / len(values):.1f} % of what the store answered, "
        f"at least {percent} % must come back"
        for kind, values, percent in kinds
        if values and 100 * sum(values) < percent * len(values) - 1e-9
    ]


def check_snapshots(service: Service, read: Read, base: KnowledgeBase) -> list[str]:
    """Asks every snapshot of a vector store what its store was asked.

    Args:
        service: Says which collections are snapshots.
        read: Returns the bytes of an asset.
        base: What is searched.

    Returns:
        A line for each kind of query of a collection that comes back with too little.
    """
    wrong = []
    for spec in service.collections:
        found = base.collections[spec.name][0].stored
        if spec.store is not None and found is not None:
            asked = read_asked(read(f"{spec.prefix}/answers.jsonl"), len(found.ids))
            wrong += differences(spec.name, asked, found, base.encoder)
    return wrong


def held_line(service: Service) -> str:
    """Returns what is said where all of them hold; "" where there is no snapshot."""
    names = [spec.name for spec in service.collections if spec.store is not None]
    return f"vector stores: {', '.join(names)} answer as they did" if names else ""


def encode_asked(questions: Sequence[Asked]) -> bytes:
    """Returns `answers.jsonl`."""
    return b"".join(json.dumps(_line(item), sort_keys=True).encode() + b"\n" for item in questions)


def read_asked(data: bytes, rows: int) -> list[Asked]:
    """Reads `answers.jsonl`; `rows` is how many the collection has.

    Raises:
        BadBundle: A line is no question with its answer.
    """
    try:
        found = [_asked(value, rows) for value in read_lines(data)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadBundle("the questions to a snapshot of a vector store are not as this program reads them") from error
    if not found:
        raise BadBundle("a snapshot of a vector store has no questions to be asked again")
    return found


def _line(item: Asked) -> dict[str, Any]:
    query: dict[str, Any] = {"text": item.text} if item.row is None else {"row": item.row}
    return {**query, "ids": list(item.ids), "scores": [float(f"{score:.7g}") for score in item.scores]}


def _asked(value: Mapping[str, Any], rows: int) -> Asked:
    ids, scores, row, text = value["ids"], value["scores"], value.get("row"), value.get("text", "")
    sound = ids and len(ids) == len(scores) and all(isinstance(score, float | int) for score in scores)
    if not sound or not (isinstance(text, str) and text if row is None else type(row) is int and 0 <= row < rows):
        raise BadBundle("a question to a snapshot of a vector store is not as this program reads it")
    return Asked(row, text, tuple(ids), tuple(float(score) for score in scores))
