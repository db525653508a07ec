"""Climbs a ladder for one request, and keeps what was learned on the way: holds and the mode.

One object a serving process, used from one event loop; the deciding is in `ladder`, `hold`, `classify` and `modes`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from appliance.gateway import hold as holds
from appliance.gateway import modes
from appliance.gateway.call import Answer, Call, Served, Skip
from appliance.gateway.hold import Hold
from appliance.gateway.ladder import decide
from appliance.gateway.outcome import Passed
from bundler.format.service import RungSpec

OpenRung = Callable[[RungSpec, Call], Awaitable[Answer]]


class NoRung(Exception):
    """No rung served the request.

    Attributes:
        incapable: None could ever have, so that asking again is pointless.
        busy: Those that could have too much to do: asking again in a moment helps.
    """

    def __init__(self, skips: tuple[Skip, ...]) -> None:
        super().__init__("no rung can serve this request")
        self.skips = skips
        self.incapable = all(skip.incapable for skip in skips)
        self.busy = not self.incapable and all(skip.incapable or skip.busy for skip in skips)
        self.code = next((skip.code for skip in skips if skip.code), "unsupported_option")


class Climber:
    """What the gateway remembers between requests.

    Args:
        upstreams: The upstream rungs of the chat ladder, best first.
        banner: The words that go with an answer while the mode is not NORMAL.
        clock: Monotonic seconds.
    """

    def __init__(self, upstreams: Sequence[str], banner: str, clock: Callable[[], float]) -> None:
        self._upstreams, self._banner, self._clock = tuple(upstreams), banner, clock
        self._holds: dict[str, Hold] = {}
        self.mode = modes.NORMAL

    def held(self, names: Sequence[str]) -> dict[str, str]:
        """Returns which of the rungs are being left alone, with the reason."""
        now = self._clock()
        return {name: reason for name in names if (reason := holds.held(self._holds, name, now)) is not None}

    def failing(self, names: Sequence[str]) -> dict[str, str]:
        """Returns which of the rungs failed last and have not answered since, with the reason."""
        now = self._clock()
        return {name: reason for name in names if (reason := holds.failing(self._holds, name, now)) is not None}

    async def climb(
        self, call: Call, rungs: Sequence[RungSpec], unavailable: Mapping[str, str], open_rung: OpenRung
    ) -> Served:
        """Returns the answer of the first rung that gives one.

        Raises:
            NoRung: None did.
            Refused: An upstream refused the caller's request itself.
        """
        plan = decide(rungs, {**self.held([rung.name for rung in rungs]), **unavailable}, call.needs, call.cannot)
        skips = list(plan.skips)
        for rung in plan.attempts:
            try:
                answer = await open_rung(rung, call)
            except Passed as passed:
                skips.append(Skip(rung.name, passed.reason, passed.incapable, passed.code, passed.busy))
                self.failed(rung.name, passed.reason, passed.hold_s)
                continue
            self._holds = holds.without(self._holds, rung.name)
            self._learn(skips, rung.name)
            banner = self._banner if self.mode != modes.NORMAL else None
            return Served(answer, self.mode, banner, _in_order(rungs, skips))
        self._learn(skips, None)
        raise NoRung(_in_order(rungs, skips))

    def failed(self, rung: str, reason: str, hold_s: float) -> None:
        """Leaves a rung alone from now on for `hold_s`."""
        self._holds = holds.after(self._holds, rung, now_s=self._clock(), hold_s=hold_s, reason=reason)

    def _learn(self, skips: Sequence[Skip], served: str | None) -> None:
        passed = {skip.rung for skip in skips if not skip.incapable}
        self.mode = modes.next_mode(self.mode, upstreams=self._upstreams, passed=passed, served=served)


def _in_order(rungs: Sequence[RungSpec], skips: Sequence[Skip]) -> tuple[Skip, ...]:
    place = {rung.name: number for number, rung in enumerate(rungs)}
    return tuple(sorted(skips, key=lambda skip: place[skip.rung]))
