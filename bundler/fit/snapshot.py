"""A vector store's rows to the assets of a collection: texts, passages, vectors, and what it answers.

Vectors of two models cannot be compared, and nothing in a store proves which made its own. So a sample of its texts is
embedded by the profile's model, and must come out near to what the store has.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from bundler.capture.stores.rows import Row, StoreFacts, parts
from bundler.fit.compile import search_facts, sentence_assets
from bundler.format.errors import BadInput
from bundler.format.store import COSINE, L2
from bundler.ingest.chunking import Passage
from bundler.ingest.readers import title_of
from bundler.knowledge.assets import FORMAT
from bundler.knowledge.passages import Chunk
from bundler.knowledge.reading import Embeds, Vectors
from bundler.knowledge.same_answers import TIE_VECTOR, Asked, encode_asked
from bundler.knowledge.words import sentences
from bundler.profile.vectors import VectorsEntry

SAMPLE = 64
# The same model in another precision stays above these (int8 keeps 0.98 on average, docs/profile.md); another model, or
# another text in front of it, falls far below. A text that one side cut shorter is what the lower one leaves room for.
MEDIAN_LEAST, LOW_LEAST, LOW_PERCENTILE = 0.97, 0.85, 5
ASKED_ROWS, ASKED_TEXTS, NEAREST = 24, 8, 10
QUESTION_CHARS = 200
_NEAR_ONE = 1e-3
WAY_OUT = "name the model that made them as [embedding], or set reembed = true, which takes only the texts"
_JOIN = "\n\n"


@dataclass(frozen=True)
class Agreement:
    """How near the store's vectors are to those of the profile's model: cosines over a sample of texts."""

    sample: int
    median: float
    low: float

    @property
    def holds(self) -> bool:
        return self.median >= MEDIAN_LEAST and self.low >= LOW_LEAST


@dataclass(frozen=True)
class Texts:
    """The texts of a store by their sources, and where in them each row stands."""

    sources: Mapping[str, dict[str, Any]]
    passages: Sequence[Passage]
    rows: Sequence[Row]

    def chunks(self) -> list[Chunk]:
        pairs = zip(self.passages, self.rows, strict=True)
        return [Chunk(p.source, p.title, p.heading, p.start, p.end, row.text) for p, row in pairs]


def agreement(rows: Sequence[Row], vectors: Vectors, encoder: Embeds) -> Agreement:
    """Embeds a sample of the texts and returns how near the store's vectors are."""
    numbers = spread(len(rows), SAMPLE)
    fresh, held = (
        encoder.embed_passages([rows[number].text for number in numbers]),
        np.asarray(vectors[numbers], np.float64),
    )
    lengths = np.linalg.norm(held, axis=1)
    cosines = np.einsum("ij,ij->i", fresh, held) / np.where(lengths > 0, lengths, 1)
    return Agreement(len(numbers), float(np.median(cosines)), float(np.percentile(cosines, LOW_PERCENTILE)))


def other_dimensions(entry: VectorsEntry, facts: StoreFacts, dimensions: int) -> str:
    """Tells how a store's vectors differ in size from those of the profile's model, or "".

    Args:
        entry: The store; the size of one that is embedded anew does not matter.
        facts: What it says of itself.
        dimensions: Of the model.
    """
    if entry.reembed or facts.dimensions == dimensions:
        return ""
    return (
        f"{entry.name}: the store's vectors have {facts.dimensions} dimensions, those of {entry.embedding} have "
        f"{dimensions}: another model made them"
    )


def refuse_other_model(entry: VectorsEntry, facts: StoreFacts, found: Agreement | None, encoder: Embeds) -> None:
    """Refuses vectors that the profile's model did not make; `found` is None where their sizes differ already.

    Raises:
        BadInput: They are another model's.
    """
    if told := other_dimensions(entry, facts, encoder.dimensions):
        raise BadInput(told, WAY_OUT)
    if found is not None and not found.holds:
        raise BadInput(
            f"{entry.name}: {found.sample} of its texts, embedded by {entry.embedding}, come out at a cosine of "
            f"{found.median:.3f} (median) and {found.low:.3f} (lowest {LOW_PERCENTILE} %) to the store's vectors, "
            f"expected at least {MEDIAN_LEAST} and {LOW_LEAST}: another model made them, or other texts",
            WAY_OUT,
        )


def place(entry: VectorsEntry, rows: Sequence[Row]) -> Texts:
    """Puts the texts of each source one after another, in the order of the store, and says where each row stands."""
    pieces: dict[str, list[str]] = {}
    titles: dict[str, str] = {}
    ends: dict[str, int] = {}
    passages = []
    for row in rows:
        source = _told(row, entry.source_key) or row.id
        title = _told(row, entry.title_key) or (title_of(source) if PurePosixPath(source).suffix else "")
        start = ends[source] + len(_JOIN) if source in ends else 0
        ends[source] = start + len(row.text)
        pieces.setdefault(source, []).append(row.text)
        titles.setdefault(source, title)
        passages.append(Passage(source, title, "", start, ends[source]))
    texts = {
        source: {"source": source, "title": titles[source], "text": _JOIN.join(found), "headings": []}
        for source, found in pieces.items()
    }
    return Texts(texts, passages, rows)


def _told(row: Row, key: str) -> str:
    value = row.metadata.get(key, "")
    return " ".join(str(value).split())[:1_000] if isinstance(value, str | int | float) else ""


def exact(vectors: Vectors, metric: str, queries: Vectors, k: int) -> list[list[tuple[int, float]]]:
    """Returns the `k` nearest rows of each query by definition, in 64 bits: `(row, score)`, nearest first."""
    wanted = np.asarray(queries, np.float64)
    best: list[list[tuple[float, int]]] = [[] for _ in queries]
    start = 0
    for part in parts(vectors):
        rows = np.asarray(part, np.float64)
        inner = rows @ wanted.T
        if metric == COSINE:
            inner /= np.maximum(np.linalg.norm(rows, axis=1)[:, None] * np.linalg.norm(wanted, axis=1)[None], 1e-30)
        if metric == L2:
            inner = 2 * inner - (rows**2).sum(axis=1)[:, None] - (wanted**2).sum(axis=1)[None]
        for number, scores in enumerate(inner.T):
            near = np.argsort(-scores, kind="stable")[:k]
            best[number] = sorted([*best[number], *((-float(scores[i]), start + int(i)) for i in near)])[:k]
        start += len(part)
    return [[(row, -score) for score, row in found] for found in best]


def questions(texts: Texts, vectors: Vectors, metric: str, encoder: Embeds) -> tuple[list[Asked], Vectors]:
    """Returns what is asked of store, builder and box, with the exact answers, and the vectors of the questions."""
    numbers = spread(len(texts.rows), ASKED_ROWS)
    said = [_question(texts.rows[number].text) for number in spread(len(texts.rows), ASKED_TEXTS)]
    queries = np.concatenate([np.asarray(vectors[numbers], np.float32), encoder.embed(said)])
    # Half of a small store: where all rows are asked for, every answer holds the same ones.
    nearest = min(NEAREST, (len(texts.rows) + 1) // 2)
    found = exact(vectors, metric, queries, nearest)
    asked = [(number, "") for number in numbers] + [(None, text) for text in said]
    return [
        Asked(row, text, tuple(texts.rows[n].id for n, _ in near), tuple(score for _, score in near))
        for (row, text), near in zip(asked, found, strict=True)
    ], queries


def recall(asked: Sequence[Asked], answers: Sequence[Sequence[str]], scores: Mapping[tuple[int, str], float]) -> float:
    """Returns the share of what is really nearest that the store itself gave; a row that ties with the last counts.

    Args:
        asked: With the exact answers.
        answers: The store's, a list of ids a question.
        scores: By number of question and id: how near what the store gave really is.
    """
    held = 0
    for number, (question, given) in enumerate(zip(asked, answers, strict=True)):
        least = min(question.scores) - TIE_VECTOR * max(1.0, *map(abs, question.scores))
        held += sum(scores.get((number, name), -np.inf) >= least for name in set(given))
    return held / sum(len(question.ids) for question in asked)


def scored(
    texts: Texts, vectors: Vectors, metric: str, queries: Vectors, answers: Sequence[Sequence[str]]
) -> dict[tuple[int, str], float]:
    """Returns how near the rows that a store gave really are; an id that it does not have is left out."""
    rows = {row.id: number for number, row in enumerate(texts.rows)}
    found: dict[tuple[int, str], float] = {}
    for number, given in enumerate(answers):
        known = [name for name in given if name in rows]
        if not known:
            continue
        near = exact(
            np.asarray(vectors[[rows[name] for name in known]]), metric, queries[number : number + 1], len(known)
        )
        found |= {(number, known[row]): score for row, score in near[0]}
    return found


def _question(text: str) -> str:
    first = next(iter(sentences(text, 0, len(text))), (0, len(text)))
    return text[first[0] : first[1]][:QUESTION_CHARS].strip() or text[:QUESTION_CHARS]


def spread(rows: int, wanted: int) -> list[int]:
    """Returns numbers of rows, evenly over all of them, the first and the last among them."""
    count = min(wanted, rows)
    return sorted({round(number * (rows - 1) / max(1, count - 1)) for number in range(count)})


def write_assets(
    folder: Path, texts: Texts, vectors: Vectors, asked: Sequence[Asked], encoder: Embeds, *, whole: bool
) -> None:
    """Writes what the box loads into `folder`: everything but `store.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    chunks = texts.chunks()
    _write(folder / "texts.jsonl", lines(texts.sources.values()))
    _write(folder / "chunks.jsonl", lines(asdict(passage) for passage in texts.passages))
    _write(folder / "rows.jsonl", lines({"id": row.id, "metadata": dict(row.metadata)} for row in texts.rows))
    _write(folder / "search.json", [search_facts(encoder)])
    _write(folder / "answers.jsonl", [encode_asked(asked)])
    _write(folder / "vectors.npy", npy_parts(vectors))
    if not whole:
        listed = {source: found["text"] for source, found in texts.sources.items()}
        for name, data in sentence_assets(texts.passages, chunks, listed, encoder).items():
            _write(folder / name, [data])


def store_facts(
    entry: VectorsEntry, facts: StoreFacts, vectors: Vectors, found: Agreement | None, recalled: float | None
) -> bytes:
    """Returns `store.json`: what was snapshotted, and what its checks came to."""
    told = {
        "format": FORMAT,
        **asdict(facts),
        "normalised": normalised(vectors),
        "reembedded": entry.reembed,
        "agreement": asdict(found) if found is not None else None,
        "recall": recalled,
    }
    return json.dumps(told, sort_keys=True, indent=1).encode() + b"\n"


def normalised(vectors: Vectors) -> bool:
    """Says whether every row has the length 1."""
    return all(bool((abs(np.linalg.norm(part, axis=1) - 1) < _NEAR_ONE).all()) for part in parts(vectors))


def npy_parts(vectors: Vectors) -> Iterator[bytes]:
    """Yields the bytes of an `.npy` file, so that a large one never stands in memory."""
    header = {"descr": "<f4", "fortran_order": False, "shape": vectors.shape}
    out = _Bytes()
    np.lib.format.write_array_header_1_0(out, header)
    yield b"".join(out.written)
    for part in parts(vectors):
        yield np.ascontiguousarray(part, dtype="<f4").tobytes()


class _Bytes:
    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)


def lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """Yields JSON Lines; escaped, since a store's text may hold what some reader takes for the end of a line."""
    return (json.dumps(row, sort_keys=True).encode() + b"\n" for row in rows)


def _write(path: Path, data: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        for piece in data:
            file.write(piece)
