"""Climbs a ladder for one request; what is learned on the way goes to `health`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from appliance.gateway import modes
from appliance.gateway.call import Answer, Call, Served, Skip
from appliance.gateway.health import Asking, Health
from appliance.gateway.ladder import decide
from appliance.gateway.outcome import Passed
from appliance.gateway.race import Race
from bundler.format.service import RungSpec

OpenRung = Callable[[RungSpec, Call, Asking | None], Awaitable[Answer]]
UPSTREAM = "upstream"
_SERVES_AS_WELL = (UPSTREAM, "model")
TRIED, LATE = "it is being tried again beside this answer", "it takes longer than this answer"


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


@dataclass
class Climb:
    """One request on its way."""

    call: Call
    open_rung: OpenRung
    skips: list[Skip] = field(default_factory=list)

    def passed(self, name: str) -> bool:
        """Says whether a rung was passed already."""
        return any(skip.rung == name for skip in self.skips)


class Climber:
    """Climbs, and says in which mode the box is.

    Args:
        upstreams: The upstream rungs of the chat ladder, best first.
        banner: The words that go with an answer of another rung than the first.
        health: What is known of the upstreams.
        away: Says why an upstream is not asked at all, or "".
    """

    def __init__(self, upstreams: Sequence[RungSpec], banner: str, health: Health, away: Callable[[str], str]) -> None:
        self._names = tuple(rung.name for rung in upstreams)
        self._targets = tuple(rung.target for rung in upstreams)
        self._banner, self.health, self._away = banner, health, away
        self.race = Race()

    @property
    def mode(self) -> str:
        """The box's mode."""
        return self.health.mode(self._targets, lambda target: bool(self._away(target)))

    def failing(self, rungs: Sequence[RungSpec]) -> dict[str, str]:
        """Returns which of the rungs failed last and have not answered since, with the reason."""
        known = [rung for rung in rungs if rung.kind == UPSTREAM and rung.target in self.health.names]
        return {rung.name: reason for rung in known if (reason := self.health.failing(rung.target)) is not None}

    async def climb(
        self,
        call: Call,
        rungs: Sequence[RungSpec],
        unavailable: Mapping[str, str],
        open_rung: OpenRung,
        passed: Sequence[Skip] = (),
    ) -> Served:
        """Returns the answer of the first rung that gives one.

        Args:
            call: The request.
            rungs: Those to try, in order.
            unavailable: Those that cannot be asked now, with the reason.
            open_rung: Opens one.
            passed: Rungs before these, which did not serve the request.

        Raises:
            NoRung: None did.
            Refused: An upstream refused the caller's request itself.
        """
        plan = decide(rungs, unavailable, call.needs, call.cannot)
        climb = Climb(call, open_rung, [*passed, *plan.skips])
        try:
            answer = await self._up(climb, plan.attempts)
        except Passed:
            raise NoRung(_in_order(rungs, climb.skips)) from None
        mode = self._mode_of(climb.skips, answer.rung)
        banner = self._banner if mode in modes.WORDS_GO_WITH else None
        return Served(answer, mode, banner, _in_order(rungs, climb.skips))

    def unasked(self, answer: Answer) -> Served:
        """Returns an answer for which no rung was asked, in the box's mode."""
        mode = self.mode
        return Served(answer, mode, self._banner if mode in modes.WORDS_GO_WITH else None)

    async def _up(self, climb: Climb, rungs: Sequence[RungSpec]) -> Answer:
        """Raises Passed where no rung serves; the reasons are among the skips."""
        for place, rung in enumerate(rungs):
            others = rungs[place + 1 :]
            asking = self._admitted(climb, rung, others)
            if isinstance(asking, str):
                climb.skips.append(Skip(rung.name, asking, busy=self.health.throttled(rung.target)))
            elif asking is not None and asking.trial and others:
                race = self.race.first(self._open(climb, rung, asking), self._up(climb, others))
                return await self._beside(climb, Skip(rung.name, TRIED), asking, others, race)
            elif asking is not None and (late := self._late(climb, rung, asking, others)):
                try:
                    return await late
                except Passed:
                    return await self._up(climb, [other for other in others if not climb.passed(other.name)])
            else:
                try:
                    return await self._open(climb, rung, asking)
                except Passed:
                    continue
        raise Passed("no rung served")

    def _late(
        self, climb: Climb, rung: RungSpec, asking: Asking, others: Sequence[RungSpec]
    ) -> Awaitable[Answer] | None:
        """Returns an attempt at a whole answer that others join once it takes long; None for an ordinary one.

        A stream tells silence by its first token. An answer in one piece tells nothing until it is there.
        """
        wait_s = 0.0 if climb.call.stream else asking.limits.beside_s
        beside = [other for other in others if other.kind in _SERVES_AS_WELL] if wait_s else []
        if not beside:
            return None
        race = self.race.late(self._open(climb, rung, asking), wait_s, lambda: self._up(climb, beside))
        return self._beside(climb, Skip(rung.name, LATE), asking, beside, race)

    async def _beside(
        self,
        climb: Climb,
        lost: Skip,
        asking: Asking,
        others: Sequence[RungSpec],
        race: Awaitable[tuple[Answer, bool]],
    ) -> Answer:
        """Returns the answer of a race of a rung with others; `lost` is said of it where another one is first."""
        try:
            answer, first = await race
        except BaseException:
            asking.release()  # a task that was ended before it began has let go of nothing
            raise
        if first:
            climb.skips[:] = [skip for skip in climb.skips if skip.rung not in {other.name for other in others}]
        elif not climb.passed(lost.rung):
            climb.skips.append(lost)
        return answer

    async def _open(self, climb: Climb, rung: RungSpec, asking: Asking | None) -> Answer:
        """Opens a rung; the leave to ask goes back whatever happens, but for a stream, which ends later."""
        try:
            answer = await climb.open_rung(rung, climb.call, asking)
        except BaseException as error:
            if isinstance(error, Passed):
                climb.skips.append(Skip(rung.name, error.reason, error.incapable, error.code, error.busy))
            if asking is not None:
                asking.release()  # a rung may decline before it asks: a trial that nobody made would never end
            raise
        return answer

    def _admitted(self, climb: Climb, rung: RungSpec, others: Sequence[RungSpec]) -> Asking | str | None:
        if rung.kind != UPSTREAM:
            return None
        alternatives = any(other.kind in _SERVES_AS_WELL for other in others)
        return self.health.admit(rung.target, climb.call, alternatives=alternatives)

    def _mode_of(self, skips: Sequence[Skip], served: str | None) -> str:
        passed = {skip.rung for skip in skips if not skip.incapable}
        return modes.of_answer(self.mode, upstreams=self._names, passed=passed, served=served)


def _in_order(rungs: Sequence[RungSpec], skips: Sequence[Skip]) -> tuple[Skip, ...]:
    place = {rung.name: number for number, rung in enumerate(rungs)}
    return tuple(sorted(skips, key=lambda skip: place.get(skip.rung, -1)))
