"""What the answering side needs of the box, as protocols; `appliance.host.box` provides the real ones."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

from appliance.engine.fit import Fit
from bundler.format.service import Service


class EngineFacts(Protocol):
    """A local model: where it listens, and whether it can answer."""

    @property
    def socket(self) -> Path: ...

    @property
    def state(self) -> str:
        """One of loading, ready, draining, missing, failed."""

    @property
    def reason(self) -> str: ...

    @property
    def device(self) -> str: ...

    @property
    def fit(self) -> Fit | None:
        """How it runs in the memory of this machine, None while that is not known."""

    @property
    def restarts(self) -> int:
        """How often it ended that nobody had told to."""

    @property
    def last_end(self) -> str:
        """Why it last did, or ""."""

    @property
    def generation(self) -> int:
        """How many of its processes became ready so far."""

    async def back(self, after: int, limit_s: float) -> bool:
        """Waits for a process newer than generation `after`; False where none comes within `limit_s`."""


class PolicyFacts(Protocol):
    """The signed policy, of which the gateway needs the egress list."""

    @property
    def egress(self) -> Sequence[str]: ...


class EncoderFacts(Protocol):
    """The embedding model: texts in, L2-normalised float32 rows out."""

    @property
    def dimensions(self) -> int: ...

    @property
    def provider(self) -> str: ...

    @property
    def precision(self) -> str: ...

    def embed(self, texts: Sequence[str]) -> Any: ...

    def tokenise(self, texts: Sequence[str]) -> list[list[int]]: ...

    def submit(self, ids: Sequence[Sequence[int]]) -> Future[Any]:
        """Queues token ids; raises Busy where too much waits."""


class KnowledgeFacts(Protocol):
    """`bundler.knowledge.base.KnowledgeBase`: blocking, thread-safe, no I/O."""

    def search(self, query: str, top_k: int, collection: str | None = None) -> Sequence[Any]: ...

    def evidence(self, question: str, collections: Collection[str] | None = None) -> Any: ...

    def faq(self, question: str, name: str | None = None) -> Any: ...

    def route(self, text: str, router: str | None = None) -> Any: ...


class Box(Protocol):
    """The installed version as the serving process sees it. `service` does not change while it serves."""

    @property
    def service(self) -> Service: ...

    @property
    def version(self) -> int: ...

    @property
    def bundle(self) -> str: ...

    @property
    def knowledge(self) -> KnowledgeFacts | None: ...

    @property
    def encoder(self) -> EncoderFacts | None: ...

    @property
    def engines(self) -> Mapping[str, EngineFacts]: ...

    @property
    def policy(self) -> PolicyFacts: ...

    @property
    def told(self) -> Callable[[], Mapping[str, Any]]:
        """Returns what the looks at this version found: JSON values, read from the disk."""
