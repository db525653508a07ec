"""Collections of passages: folders of documents, and snapshots of vector stores (SPEC 7.6)."""

from __future__ import annotations

from dataclasses import dataclass, field

from bundler.format.record import LATER

METRICS = COSINE, IP, L2 = ("cosine", "ip", "l2")


@dataclass(frozen=True)
class StoreSpec:
    """A snapshot of a vector store: `rows.jsonl`, `store.json` and `answers.jsonl` under the collection's prefix.

    Attributes:
        metric: One of METRICS: how the store ranked, and a search that names the collection ranks.
        whole: Whether a passage is quoted whole; there are no vectors of sentences then.
    """

    metric: str
    whole: bool = field(default=False, metadata=LATER)


@dataclass(frozen=True)
class CollectionSpec:
    """A document collection: `texts.jsonl`, `chunks.jsonl`, `vectors.npy` and `search.json` under `prefix`.

    `store` says what a snapshot of a vector store has beside them; None for documents.
    """

    name: str
    prefix: str
    store: StoreSpec | None = field(default=None, metadata=LATER)
