"""The engines of one serving process: versions that use the same model share one, so a new FAQ loads no model again."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from appliance.engine.fitting import Room
from appliance.engine.parent import Engine
from bundler.format.bundle import Bundle
from bundler.format.service import ModelSpec


@dataclass
class _Place:
    engine: Engine
    users: int = 0


class Shelf:
    """Engines by what they run.

    Args:
        run: Private folder for sockets.

    Attributes:
        room: The memory of this machine, as all of them see it.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self.room = Room()  # one for all versions: while they change, two load into one memory
        self._places: dict[tuple[ModelSpec, int], _Place] = {}
        self._made = 0

    def take(self, bundle: Bundle) -> dict[str, Engine]:
        """Returns an engine for each model of a version, by name: one that runs already, or a new one, not started."""
        service = bundle.index.service
        return {spec.name: self._take(spec, bundle, service.limits.queue_requests) for spec in service.models}

    def _take(self, spec: ModelSpec, bundle: Bundle, queue: int) -> Engine:
        place = self._places.get((spec, queue))
        if place is None:
            place = self._places[spec, queue] = _Place(self._make(spec, bundle, queue))
        place.users += 1
        return place.engine

    def _make(self, spec: ModelSpec, bundle: Bundle, queue: int) -> Engine:
        self._made += 1
        folder = self._run / str(self._made)
        folder.mkdir(mode=0o700, exist_ok=True)
        reader = bundle.reader(spec.asset)
        return Engine(spec, reader, runtime_dir=folder, threads=None, queue_requests=queue, room=self.room)

    async def stop(self) -> None:
        """Ends all engines: the process does."""
        await asyncio.gather(*(place.engine.stop() for place in self._places.values()))

    async def give_back(self, engines: dict[str, Engine]) -> None:
        """Ends the engines that no version uses any more."""
        ending = []
        for engine in engines.values():
            key = next(key for key, place in self._places.items() if place.engine is engine)
            self._places[key].users -= 1
            if not self._places[key].users:
                del self._places[key]
                ending.append(engine.stop())
        await asyncio.gather(*ending)
