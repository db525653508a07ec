"""What Prometheus reads of what outlives the process: the answer cache, and the requests that nobody waits for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge


class CacheSeen(Protocol):
    """How the answer cache stands: what it holds, what came of looks, what was kept and what went, and its fault."""

    @property
    def answers(self) -> int: ...

    @property
    def sealed_bytes(self) -> int: ...

    @property
    def looks(self) -> Mapping[str, int]: ...

    @property
    def kept(self) -> int: ...

    @property
    def gone(self) -> Mapping[str, int]: ...

    @property
    def trouble(self) -> str: ...


class JobsSeen(Protocol):
    """How jobs stand: how many are not answered, how many of them run, and the age of the oldest."""

    @property
    def waiting(self) -> int: ...

    @property
    def running(self) -> int: ...

    @property
    def oldest_s(self) -> int: ...


class CacheMetrics:
    """The cache's part of the page; totals are counted elsewhere, and taken over."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._looks = Counter("lifeboat_cache_looks", "Looks into the answer cache", ["result"], registry=registry)
        self._kept = Counter("lifeboat_cache_kept", "Answers that were kept", registry=registry)
        self._gone = Counter("lifeboat_cache_evicted", "Kept answers that went", ["reason"], registry=registry)
        self._answers = Gauge("lifeboat_cache_answers", "Answers that are kept now", registry=registry)
        self._bytes = Gauge("lifeboat_cache_bytes", "Bytes of the answers that are kept now", registry=registry)
        self._trouble = Gauge("lifeboat_cache_fault", "1 while the cache's file cannot be used", registry=registry)
        self._taken: dict[tuple[str, str], int] = {}

    def take(self, seen: CacheSeen) -> None:
        """Takes over how the cache stands."""
        self._answers.set(seen.answers)
        self._bytes.set(seen.sealed_bytes)
        self._trouble.set(bool(seen.trouble))
        for result, count in seen.looks.items():
            self._looks.labels(result).inc(self._more("look", result, count))
        for reason, count in seen.gone.items():
            self._gone.labels(reason).inc(self._more("gone", reason, count))
        self._kept.inc(self._more("kept", "", seen.kept))

    def _more(self, kind: str, label: str, count: int) -> int:
        before = self._taken.get((kind, label), 0)
        self._taken[kind, label] = count
        return max(0, count - before)


class JobMetrics:
    """The jobs' part of the page."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._jobs = Gauge("lifeboat_jobs", "Requests that nobody waits for", ["state"], registry=registry)
        words = "Age of the oldest of them that is not answered"
        self._oldest = Gauge("lifeboat_jobs_oldest_seconds", words, registry=registry)

    def take(self, seen: JobsSeen) -> None:
        """Takes over how the jobs stand."""
        self._jobs.labels("waiting").set(max(0, seen.waiting - seen.running))
        self._jobs.labels("running").set(seen.running)
        self._oldest.set(seen.oldest_s)
