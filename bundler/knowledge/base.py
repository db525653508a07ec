"""Everything that a bundle knows, loaded: documents, FAQs and routers behind one embedding model."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from bundler.format.errors import BadBundle
from bundler.format.service import Service
from bundler.format.store import CollectionSpec, StoreSpec
from bundler.knowledge import assets
from bundler.knowledge.dense import DenseFactory, Exact
from bundler.knowledge.evidence import judge
from bundler.knowledge.faq import FaqMatcher
from bundler.knowledge.logistic import Logistic
from bundler.knowledge.passages import Passages, Sentence
from bundler.knowledge.reading import Embeds, Vectors
from bundler.knowledge.router import Router
from bundler.knowledge.stored import stored
from bundler.knowledge.types import EMPTY, Evidence, FaqResult, Hit, RouteResult

QUERY_CHARS_MAX = 8_000


class KnowledgeBase:
    """Answers without a language model. Blocking, thread-safe, no I/O."""

    def __init__(
        self,
        encoder: Embeds,
        collections: Mapping[str, tuple[Passages, Logistic]],
        faqs: Mapping[str, FaqMatcher],
        routers: Mapping[str, Router],
    ) -> None:
        self.encoder, self.collections, self.faqs, self.routers = encoder, collections, faqs, routers

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of self-test cases that there is content for."""
        held = {"faq": self.faqs, "documents": self.collections, "route": self.routers}
        return frozenset(kind for kind, content in held.items() if content)

    @classmethod
    def load(cls, service: Service, read: assets.Read, encoder: Embeds, dense: DenseFactory = Exact) -> KnowledgeBase:
        """Loads what the service names.

        Args:
            service: The compiled profile.
            read: Returns the bytes of an asset.
            encoder: The embedding model that the vectors were made with.
            dense: Makes the candidate search of a collection.

        Raises:
            BadBundle: Assets that do not fit each other or the embedding model, in its precision.
        """
        spec = service.embedding
        if spec is not None and spec.dimensions != encoder.dimensions:
            raise BadBundle(f"the embedding model gives {encoder.dimensions} dimensions, the index {spec.dimensions}")
        if spec is not None and spec.precision != encoder.precision:
            raise BadBundle(f"the embedding model is in {encoder.precision}, the index in {spec.precision}")
        size = encoder.dimensions
        try:
            for path in _beside_vectors(service):
                assets.refuse_other_model(read(path), encoder.identity, path)
            return cls(
                encoder,
                {item.name: _collection(read, item, size, dense) for item in service.collections},
                {item.name: assets.load_faq(read, item.prefix, size) for item in service.faqs},
                {item.name: assets.load_router(read, item.prefix, size) for item in service.routers},
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise BadBundle(f"the knowledge assets are not as this program reads them: {error!r}") from error

    def search(self, query: str, top_k: int, collection: str | None = None) -> list[Hit]:
        """Returns the best passages, best first; of all collections where none is named.

        A snapshot of a vector store that is named answers as the store did: by its metric, over its vectors alone.

        Raises:
            KeyError: There is no such collection.
        """
        vector = self._vector(query)
        if collection is not None and (named := self.collections[collection][0]).stored is not None:
            return named.as_stored(vector, top_k)
        chosen = self.collections if collection is None else {collection: self.collections[collection]}
        hits = [passages.hit(item) for passages, _ in chosen.values() for item in passages.find(query, vector, top_k)]
        return sorted(hits, key=lambda hit: -hit.score)[:top_k]

    def evidence(self, question: str, collections: Collection[str] | None = None) -> Evidence:
        """Returns the most confident evidence of these collections; of any where None is given.

        Raises:
            KeyError: There is no such collection.
        """
        vector = self._vector(question)
        asked = [self.collections[name] for name in (self.collections if collections is None else collections)]
        judged = [judge(passages, gate, question, vector) for passages, gate in asked]
        return max(judged, key=lambda item: item.confidence, default=EMPTY)

    def faq(self, question: str, name: str | None = None) -> FaqResult:
        """Returns the answer of the named FAQ; the most confident one of any where none is named.

        Raises:
            KeyError: There is no such FAQ.
        """
        vector = self._vector(question)
        asked = self.faqs.values() if name is None else [self.faqs[name]]
        results = [matcher.match(question, vector) for matcher in asked]
        return max(
            results, key=lambda item: (item.match is not None, item.confidence), default=FaqResult(None, 0.0, ())
        )

    def route(self, text: str, router: str | None = None) -> RouteResult:
        """Routes with the named router, or with the first one.

        Raises:
            KeyError: There is no such router.
        """
        chosen = self.routers[router] if router is not None else next(iter(self.routers.values()), None)
        if chosen is None:
            raise KeyError(router)
        return chosen.route(self._vector(text))

    def _vector(self, text: str) -> Vectors:
        vector: Vectors = self.encoder.embed([text[:QUERY_CHARS_MAX]])[0]
        return vector


def _beside_vectors(service: Service) -> list[str]:
    paths = [f"{item.prefix}/search.json" for item in service.collections]
    paths += [f"{item.prefix}/matcher.json" for item in service.faqs]
    return paths + [f"{item.prefix}/router.json" for item in service.routers]


def _collection(
    read: assets.Read, spec: CollectionSpec, dimensions: int, dense: DenseFactory
) -> tuple[Passages, Logistic]:
    if spec.store is not None:
        return _snapshot(read, spec, spec.store, dimensions, dense)
    name, prefix = spec.name, spec.prefix
    chunks, sentences = assets.load_chunks(read, prefix), assets.load_sentences(read, prefix)
    vectors = assets.read_vectors(read(f"{prefix}/vectors.npy"), dimensions, f"{prefix}/vectors.npy")
    rows = assets.read_vectors(read(f"{prefix}/sentences.npy"), dimensions, f"{prefix}/sentences.npy")
    if len(vectors) != len(chunks) or len(rows) != len(sentences):
        raise BadBundle(f"the vectors of {prefix} do not fit its passages")
    return Passages(name, chunks, vectors, sentences, rows, dense(vectors)), assets.load_gate(read, prefix)


def _snapshot(
    read: assets.Read, spec: CollectionSpec, store: StoreSpec, dimensions: int, dense: DenseFactory
) -> tuple[Passages, Logistic]:
    prefix = spec.prefix
    chunks, ids = assets.load_chunks(read, prefix), assets.load_ids(read, prefix)
    vectors = assets.read_vectors(read(f"{prefix}/vectors.npy"), dimensions, f"{prefix}/vectors.npy")
    if not len(vectors) == len(chunks) == len(ids):
        raise BadBundle(f"the vectors of {prefix} do not fit its rows")
    found = stored(store.metric, ids, vectors)
    if store.whole:
        sentences, rows = [Sentence(n, chunk.start, chunk.end) for n, chunk in enumerate(chunks)], found.units
    else:
        sentences = assets.load_sentences(read, prefix)
        rows = assets.read_vectors(read(f"{prefix}/sentences.npy"), dimensions, f"{prefix}/sentences.npy")
    if len(rows) != len(sentences):
        raise BadBundle(f"the vectors of {prefix} do not fit its sentences")
    passages = Passages(spec.name, chunks, found.units, sentences, rows, dense(found.units), found)
    return passages, assets.load_gate(read, prefix)
