"""Proves a candidate before it may serve: the bundle's own self-test on this box, with its models on this box."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from appliance.engine.parent import Engine
from appliance.host.box import load_knowledge, make_engines
from appliance.host.gate import NOT_TESTED, NotProved, asked
from appliance.store.install import Proof
from bundler.files import scratch_folder
from bundler.format.bundle import Bundle
from bundler.knowledge import selftest


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
        service = bundle.index.service
        lines, passed = [], True
        knowledge, _ = load_knowledge(bundle)
        if service.selftest is not None and knowledge is not None:
            cases = selftest.read_cases(bundle.read(service.selftest.asset))
            report = selftest.run(cases, knowledge, service.selftest)
            lines, passed = list(report.lines()), report.passed
        tested = asyncio.run(self._models(bundle)) if self.models else []
        lines += [line for line, _ in tested]
        outcomes = [outcome for _, outcome in tested]
        return Proof(
            passed and False not in outcomes, tuple(lines), all(outcomes) and (self.models or not service.models)
        )

    async def _models(self, bundle: Bundle) -> list[tuple[str, bool | None]]:
        """Returns a line and an outcome a model: True answered, False failed, None could not be tried."""
        with scratch_folder(self.run, "prove-") as folder:
            return [await _asked(engine) for engine in make_engines(bundle, folder).values()]


async def _asked(engine: Engine) -> tuple[str, bool | None]:
    await engine.start()
    try:
        line = await asked(engine)
    except NotProved as failure:
        return f"FAILED, {failure}", False
    finally:
        await engine.stop()
    return line, None if NOT_TESTED in line else True
