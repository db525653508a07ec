"""Content to assets: embedded, indexed through Chroma, fitted. The same input gives the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from bundler.capture.vectors import npy, through_chroma
from bundler.fit.faq import fit_faq
from bundler.fit.gate import GATE
from bundler.fit.router import fit_head, fit_judgement
from bundler.ingest.chunking import Passage, passages
from bundler.ingest.faq import FaqEntry
from bundler.ingest.readers import Document
from bundler.ingest.routes import RouteExample
from bundler.knowledge.assets import FORMAT, MADE_WITH
from bundler.knowledge.logistic import Logistic
from bundler.knowledge.passages import Chunk
from bundler.knowledge.reading import Embeds, Vectors
from bundler.knowledge.words import sentences


def compile_documents(documents: Sequence[Document], encoder: Embeds, name: str) -> dict[str, bytes]:
    """Returns the assets of a document collection."""
    texts = {document.source: document.text for document in documents}
    found = [passage for document in documents for passage in passages(document, encoder.count_tokens)]
    chunks = [_chunk(passage, texts[passage.source]) for passage in found]
    scored = [chunk.scored_text for chunk in chunks]
    vectors = through_chroma(encoder.embed_passages(scored), scored)
    prefix = f"documents/{name}"
    quotes = sentence_assets(found, chunks, texts, encoder)
    return {
        f"{prefix}/texts.jsonl": _lines(asdict(document) for document in documents),
        f"{prefix}/chunks.jsonl": _lines(asdict(passage) for passage in found),
        f"{prefix}/vectors.npy": npy(vectors),
        f"{prefix}/search.json": search_facts(encoder),
        **{f"{prefix}/{name}": data for name, data in quotes.items()},
    }


def sentence_assets(
    found: Sequence[Passage], chunks: Sequence[Chunk], texts: Mapping[str, str], encoder: Embeds
) -> dict[str, bytes]:
    """Returns the sentences of passages, which are what is quoted, with the mean of their vectors alone and in context.

    Args:
        found: The passages.
        chunks: The same, with their texts.
        texts: By source.
        encoder: The embedding model.
    """
    places = [
        (number, first, last)
        for number, passage in enumerate(found)
        for first, last in sentences(texts[passage.source], passage.start, passage.end)
    ]
    quoted = [texts[found[number].source][first:last] for number, first, last in places]
    in_context = [chunks[number].sentence_in_context(text) for (number, _, _), text in zip(places, quoted, strict=True)]
    return {
        "sentences.jsonl": _lines({"at": place} for place in places),
        "sentences.npy": npy(_both(encoder, quoted, in_context)),
    }


def search_facts(encoder: Embeds) -> bytes:
    """Returns `search.json`: when passages answer, and which model their vectors are of."""
    return _json({"model": _model(GATE), MADE_WITH: encoder.identity})


def compile_faq(entries: Sequence[FaqEntry], encoder: Embeds, name: str) -> dict[str, bytes]:
    """Returns the assets of an FAQ."""
    vectors = encoder.embed([wording for entry in entries for wording in entry.wordings])
    with threadpool_limits(1):
        model = fit_faq(entries, vectors)
    prefix = f"faq/{name}"
    return {
        f"{prefix}/faq.jsonl": _lines(asdict(entry) for entry in entries),
        f"{prefix}/vectors.npy": npy(vectors),
        f"{prefix}/matcher.json": _json({"model": _model(model), MADE_WITH: encoder.identity}),
    }


def compile_router(examples: Sequence[RouteExample], encoder: Embeds, name: str) -> dict[str, bytes]:
    """Returns the assets of a router."""
    labelled = [(example.text, example.label) for example in examples if example.label is not None]
    labels = [label for _, label in labelled]
    known = sorted(set(labels))
    vectors = encoder.embed([text for text, _ in labelled])
    foreign = _embedded(encoder, [example.text for example in examples if example.label is None])
    with threadpool_limits(1):  # sums in another order give other last digits
        judgement, head = fit_judgement(labels, known, vectors, foreign), fit_head(labels, known, vectors)
    prefix = f"router/{name}"
    facts = {"labels": known, "in_scope": len(vectors), "model": _model(judgement), MADE_WITH: encoder.identity}
    return {
        f"{prefix}/router.json": _json(facts),
        f"{prefix}/weights.npy": npy(head),
        f"{prefix}/examples.npy": npy(np.concatenate([vectors, foreign])),
    }


def _both(encoder: Embeds, quoted: Sequence[str], in_context: Sequence[str]) -> Vectors:
    both: Vectors = (encoder.embed_passages(quoted) + encoder.embed_passages(in_context)) * np.float32(0.5)
    return both


def _embedded(encoder: Embeds, texts: Sequence[str]) -> Vectors:
    return encoder.embed(texts) if texts else np.zeros((0, encoder.dimensions), dtype=np.float32)


def _chunk(passage: Passage, text: str) -> Chunk:
    return Chunk(
        passage.source, passage.title, passage.heading, passage.start, passage.end, text[passage.start : passage.end]
    )


def _model(model: Logistic) -> dict[str, Any]:
    return asdict(model)


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps({"format": FORMAT, **value}, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def _lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row, sort_keys=True, ensure_ascii=False).encode() + b"\n" for row in rows)
