"""Proves a candidate before it may serve: the bundle's own self-test on this box, with its models on this box."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from appliance.engine.fitting import Room
from appliance.engine.parent import Engine
from appliance.host.box import make_engines
from appliance.host.gate import NOT_TESTED, asked, limit_ms_of, memory_line
from appliance.host.trial import NotProved, Trial, tried
from appliance.store.proof import Proof
from bundler.files import scratch_folder
from bundler.format.bundle import Bundle
from bundler.format.service import Service


@dataclass(frozen=True)
class Prover:
    """Loads a candidate beside what serves, and asks it.

    Attributes:
        run: Where the engines' sockets may lie.
        models: Ask them here; otherwise what serves does, which shares those that it has.
    """

    run: Path
    models: bool = True

    def __call__(self, bundle: Bundle) -> Proof:
        return asyncio.run(self._prove(bundle))

    async def _prove(self, bundle: Bundle) -> Proof:
        service, room = bundle.index.service, Room()
        try:
            trial = await tried(bundle, room.look)
        except NotProved as failure:
            if failure.short and not self.models:  # what serves can make room, and proves the version once more
                return Proof(
                    passed=True, lines=(f"{NOT_TESTED} while it was installed: {failure}",), model_tested=False
                )
            return Proof(passed=False, lines=(f"FAILED, {failure}",), model_tested=False)
        lines = list(trial.lines)
        outcomes: list[bool | None] = [trial.passed]
        if self.models and trial.passed:
            with scratch_folder(self.run, "prove-") as folder:
                engines = make_engines(bundle, folder, room)
                tested: list[tuple[str, bool | None]] = [
                    await _asked(engine, limit_ms_of(service)) for engine in engines.values()
                ]
            tested.append(_memory(service, trial, engines))
            lines += [line for line, _ in tested]
            outcomes += [outcome for _, outcome in tested]
        all_tested = all(outcomes) and (self.models or not service.models)
        return Proof(False not in outcomes, tuple(lines), all_tested, trial.failures)


def _memory(service: Service, trial: Trial, engines: Mapping[str, Engine]) -> tuple[str, bool]:
    try:
        return memory_line(service, trial.held_bytes, engines.values()), True
    except NotProved as failure:
        return f"FAILED, {failure}", False


async def _asked(engine: Engine, limit_ms: int) -> tuple[str, bool | None]:
    """Returns a line and an outcome of a model: True answered, False failed, None could not be tried."""
    await engine.start()
    try:
        line = await asked(engine, limit_ms)
    except NotProved as failure:
        return f"FAILED, {failure}", False
    finally:
        await engine.stop()
    return line, None if NOT_TESTED in line else True
