"""What Prometheus reads at `/metrics`: one registry a serving process; no name or text of a request is a label."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from appliance.edge.records_metrics import CacheMetrics, CacheSeen, JobMetrics, JobsSeen
from appliance.gateway.breaker import STATES
from appliance.gateway.modes import MODES
from appliance.gateway.pin import AUTO

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class UpstreamSeen:
    """A provider: its breaker's state, whether its first tokens come late, and whether it wants to be left alone."""

    name: str
    state: str
    watched: bool
    throttled: bool


@dataclass(frozen=True)
class Seen:
    """The box: its mode, its version, what it is pinned to, and (provider, kind, outcome) of probes -> how often."""

    mode: str
    version: int
    pinned: str
    probes: Mapping[tuple[str, str, str], int]


class Tickets(Protocol):
    """How the hand-off tickets stand: how many wait, the age of the oldest, and how many went out."""

    @property
    def waiting(self) -> int: ...

    @property
    def oldest_s(self) -> int: ...

    @property
    def sent(self) -> int: ...


class Metrics:
    """The counters of one serving process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._answers = Counter(
            "lifeboat_answers", "Answers by rung and mode", ["endpoint", "rung", "mode"], registry=self.registry
        )
        self._skips = Counter("lifeboat_rung_skips", "Rungs that were passed over", ["rung"], registry=self.registry)
        self._errors = Counter(
            "lifeboat_errors", "Requests that got an error", ["endpoint", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "lifeboat_answer_begin_seconds",
            "Time until an answer began",
            ["endpoint"],
            buckets=(0.005, 0.02, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120),
            registry=self.registry,
        )
        self._begun: dict[tuple[str, str, str], tuple[Counter, Histogram]] = {}
        self._cuts = Counter("lifeboat_stream_cuts", "Streams that broke after they began", registry=self.registry)
        self._ready = Gauge("lifeboat_rung_ready", "1 where a rung can serve", ["rung", "kind"], registry=self.registry)
        self._mode = Gauge("lifeboat_mode", "1 for the mode that the box is in", ["mode"], registry=self.registry)
        self._breaker = Gauge(
            "lifeboat_upstream_breaker", "1 for the state of a breaker", ["upstream", "state"], registry=self.registry
        )
        self._watched = Gauge(
            "lifeboat_upstream_slow", "1 where first tokens come late", ["upstream"], registry=self.registry
        )
        self._throttled = Gauge(
            "lifeboat_upstream_throttled", "1 where it asked to be left alone", ["upstream"], registry=self.registry
        )
        self._probes = Counter(
            "lifeboat_probes", "Probes of providers", ["upstream", "kind", "outcome"], registry=self.registry
        )
        self._counted: dict[tuple[str, str, str], int] = {}
        self._pinned = Gauge("lifeboat_pinned", "1 while the box is pinned", registry=self.registry)
        self._waiting = Gauge(
            "lifeboat_handoff_waiting", "Hand-off tickets that nobody has yet", registry=self.registry
        )
        self._oldest = Gauge(
            "lifeboat_handoff_oldest_seconds", "Age of the oldest ticket that nobody has yet", registry=self.registry
        )
        self._sent = Gauge("lifeboat_handoff_sent", "Tickets that went out since the start", registry=self.registry)
        self._cache = CacheMetrics(self.registry)
        self._jobs = JobMetrics(self.registry)
        self._version = Gauge("lifeboat_version", "The serving version", registry=self.registry)

    def cached(self, cache: CacheSeen | None) -> None:
        """Takes how the answer cache stands; None where there is none."""
        if cache is not None:
            self._cache.take(cache)

    def worked(self, jobs: JobsSeen | None) -> None:
        """Takes how the jobs stand; None where none are taken."""
        if jobs is not None:
            self._jobs.take(jobs)

    def answered(self, endpoint: str, rung: str, mode: str, skipped: Iterable[str], seconds: float) -> None:
        labels = endpoint, rung, mode
        if labels not in self._begun:  # `labels` takes longer than the counting
            self._begun[labels] = self._answers.labels(*labels), self._seconds.labels(endpoint)
        answers, taken = self._begun[labels]
        answers.inc()
        taken.observe(seconds)
        for rung_skipped in skipped:
            self._skips.labels(rung_skipped).inc()

    def erred(self, endpoint: str, status: int) -> None:
        self._errors.labels(endpoint, str(status)).inc()

    def cut(self) -> None:
        self._cuts.inc()

    def page(
        self,
        seen: Seen,
        ready: Iterable[tuple[str, str, bool]],
        cloud: Iterable[UpstreamSeen],
        tickets: Tickets | None = None,
    ) -> bytes:
        """Returns the page; `ready` lists (rung, kind, whether it can serve), `tickets` is None where none are made."""
        if tickets is not None:
            self._waiting.set(tickets.waiting)
            self._oldest.set(tickets.oldest_s)
            self._sent.set(tickets.sent)
        self._version.set(seen.version)
        self._pinned.set(seen.pinned != AUTO)
        for each in MODES:
            self._mode.labels(each).set(each == seen.mode)
        for rung, kind, is_ready in ready:
            self._ready.labels(rung, kind).set(is_ready)
        for upstream in cloud:
            self._set(upstream)
        for labels, count in seen.probes.items():
            self._probes.labels(*labels).inc(count - self._counted.get(labels, 0))
            self._counted[labels] = count
        return generate_latest(self.registry)

    def _set(self, upstream: UpstreamSeen) -> None:
        for state in STATES:
            self._breaker.labels(upstream.name, state).set(state == upstream.state)
        self._watched.labels(upstream.name).set(upstream.watched)
        self._throttled.labels(upstream.name).set(upstream.throttled)
