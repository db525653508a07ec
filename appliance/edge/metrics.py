"""What Prometheus reads at `/metrics`: one registry a serving process; no name or text of a request is a label."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from appliance.gateway.modes import MODES

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


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
        self._cuts = Counter("lifeboat_stream_cuts", "Streams that broke after they began", registry=self.registry)
        self._ready = Gauge("lifeboat_rung_ready", "1 where a rung can serve", ["rung", "kind"], registry=self.registry)
        self._mode = Gauge("lifeboat_mode", "1 for the mode that the box is in", ["mode"], registry=self.registry)
        self._version = Gauge("lifeboat_version", "The serving version", registry=self.registry)

    def answered(self, endpoint: str, rung: str, mode: str, skipped: Iterable[str], seconds: float) -> None:
        self._answers.labels(endpoint, rung, mode).inc()
        self._seconds.labels(endpoint).observe(seconds)
        for rung_skipped in skipped:
            self._skips.labels(rung_skipped).inc()

    def erred(self, endpoint: str, status: int) -> None:
        self._errors.labels(endpoint, str(status)).inc()

    def cut(self) -> None:
        self._cuts.inc()

    def page(self, mode: str, version: int, ready: Iterable[tuple[str, str, bool]]) -> bytes:
        """Returns the page; `ready` lists (rung, kind, whether it can serve)."""
        self._version.set(version)
        for each in MODES:
            self._mode.labels(each).set(each == mode)
        for rung, kind, is_ready in ready:
            self._ready.labels(rung, kind).set(is_ready)
        return generate_latest(self.registry)
