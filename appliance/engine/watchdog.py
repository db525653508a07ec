"""When a child is given up, and when the next one starts. Pure: signs and times in, reasons and waits out.

A slow child is not a stuck one. While llama.cpp computes on the CPU its work is seen node by node, so the limit is
for one node (the largest matrix product of a 70B model, 8192 by 28672 for 512 tokens, is 1.2e11 multiplications: 12 s
at 1e10 a second); on a GPU it is for a whole step. Time that the parent itself did not run is nobody's silence.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.engine.pulse import Signs
from bundler.format.errors import FileMissing, LifeboatError, SystemFailed

_BACKOFF_LONGEST_S = 60.0
EXIT_STUCK = 45  # of a child whose threads do not end


@dataclass(frozen=True)
class Patience:
    """How long a child may show nothing, in seconds.

    Attributes:
        silent_s: Without a beat: it is stopped, or starved by the machine.
        stuck_s: With work in hand and without progress, or with an event loop that does not turn.
        load_s: Without a read before it is ready; a GPU's first start compiles its kernels, which takes minutes.
        healthy_s: Serving so long, it has recovered: the next end is a first one again.
        look_s: Between two looks.
        stop_s: For ending after the last word.
    """

    silent_s: float = 15.0
    stuck_s: float = 60.0
    load_s: float = 600.0
    healthy_s: float = 60.0
    look_s: float = 1.0
    stop_s: float = 5.0


@dataclass(frozen=True)
class Seen:
    """What the parent sees of a child: `reads` grows with each read of the model, `ready` says that it serves."""

    signs: Signs
    reads: int
    ready: bool


class Watch:
    """Watches one child.

    Args:
        patience: The limits.
        memory_bytes: What the child may have in RAM, or None.
    """

    def __init__(self, patience: Patience, memory_bytes: int | None) -> None:
        self._patience, self._memory_bytes = patience, memory_bytes
        self._last: Seen | None = None
        self._last_s = 0.0
        self._silent_s = self._deaf_s = self._stuck_s = self._loading_s = 0.0

    def look(self, seen: Seen, now_s: float) -> str | None:
        """Returns why the child must end, or None."""
        last, self._last = self._last or seen, seen
        # The parent looks late where it was stopped itself, or the whole machine was.
        passed_s = min(now_s - self._last_s, 2 * self._patience.look_s) if self._last_s else 0.0
        self._last_s = now_s
        old, new = last.signs, seen.signs
        self._silent_s = _grown(self._silent_s, passed_s, still=old.beats == new.beats)
        self._deaf_s = _grown(self._deaf_s, passed_s, still=seen.ready and old.ticks == new.ticks)
        self._stuck_s = _grown(self._stuck_s, passed_s, still=old.busy and new.busy and old.work == new.work)
        self._loading_s = _grown(self._loading_s, passed_s, still=not seen.ready and last.reads == seen.reads)
        return self._verdict(new)

    def _verdict(self, signs: Signs) -> str | None:
        limits = self._patience
        if self._memory_bytes is not None and signs.resident_bytes > self._memory_bytes:
            return f"it used {signs.resident_bytes / 1e6:.0f} MB of memory, its limit is {self._memory_bytes / 1e6:.0f}"
        if self._silent_s >= limits.silent_s:
            return f"it showed no sign of life for {self._silent_s:.0f} s"
        if self._deaf_s >= limits.stuck_s:
            return f"it heard no request for {self._deaf_s:.0f} s"
        if self._stuck_s >= limits.stuck_s:
            return f"it was stuck in one step of work for {self._stuck_s:.0f} s"
        if self._loading_s >= limits.load_s:
            return f"it read nothing for {self._loading_s:.0f} s and did not become ready"
        return None


def next_wait_s(failures: int) -> float:
    """Returns the wait before the next start: none after the first end, then 1, 2, 4 ... 60 s.

    Args:
        failures: Ends since the child was last healthy, this one included.
    """
    return 0.0 if failures <= 1 else float(min(_BACKOFF_LONGEST_S, 2.0 ** min(failures - 2, 10)))


def may_heal(failure: Exception) -> bool:
    """Whether what broke the reading of a model may be gone at the next try: a medium that was pulled comes back.

    What was read and is not what was signed stays so, and so does a header that is none.
    """
    return isinstance(failure, SystemFailed | FileMissing) or not isinstance(failure, LifeboatError)


def why(code: int) -> str:
    """Returns words for an exit code that nobody asked for."""
    if code == EXIT_STUCK:
        return "the engine ended because the preparation of a request did not"
    if code == -9:
        return "the engine was killed (signal 9), by hand or because the machine ran out of memory"
    return f"the engine ended with {f'signal {-code}' if code < 0 else f'code {code}'}"


def _grown(spent_s: float, passed_s: float, *, still: bool) -> float:
    return spent_s + passed_s if still else 0.0
