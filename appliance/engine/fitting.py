"""Fits engines into this machine before each start, and remembers what was promised to those that still load.

A child takes its memory little by little: caches while it loads, compute buffers with the first long prompt. Until then
the kernel calls that memory free, and a second engine would be given it again.

Rules:
1. One looks at a time, and holds its claim before the next one looks.
2. What others still have to take is counted before the look: what they take in between is then counted twice, and
   never not at all.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from appliance.engine import probe
from appliance.engine.facts import ModelFacts, model_facts
from appliance.engine.fit import Fit, Wanted, fit
from appliance.engine.machine import Machine
from appliance.engine.reading import ReadAt, as_file
from bundler.format.gguf_header import read_header
from bundler.format.service import ModelSpec

Look = Callable[[], Machine]


@dataclass
class _Claim:
    """What one engine was promised; `process` is its child's id once there is one, `loading` until it answers."""

    host_bytes: int
    gpu_bytes: int
    process: int | None = None
    loading: bool = True


class Room:
    """The memory of one machine, shared by the engines of one process.

    Args:
        look: Returns what the machine has now.
        resident: Returns the bytes that a process holds already, and shares with no other.
    """

    def __init__(self, look: Look = probe.look, resident: Callable[[int], int] = probe.resident_bytes) -> None:
        self.look, self._resident = look, resident
        self._claims: dict[object, _Claim] = {}
        self._looking = threading.Lock()

    def claim(self, who: object, model: ModelFacts, wanted: Wanted) -> Fit:
        """Looks, and promises a model what others were not promised; blocks, for a thread.

        Raises:
            DoesNotFit: With the figures; nothing is promised.
        """
        with self._looking:
            self.give_back(who)
            others = self._open_claims()
            return self._promise(who, model, _less(self.look(), *others), wanted)

    def take(self, who: object, model: ModelFacts, machine: Machine, wanted: Wanted) -> Fit:
        """Fits a model into a given machine less what others were promised; raises DoesNotFit."""
        self.give_back(who)
        return self._promise(who, model, _less(machine, *self._open_claims()), wanted)

    def started(self, who: object, process: int) -> None:
        """Tells which process takes what was promised."""
        if who in self._claims:
            self._claims[who].process = process

    def loaded(self, who: object) -> None:
        """Tells that a child holds its memory on the GPU, where the driver counts it."""
        if who in self._claims:
            self._claims[who].loading = False

    def give_back(self, who: object) -> None:
        """Forgets a promise: the child has ended."""
        self._claims.pop(who, None)

    def _promise(self, who: object, model: ModelFacts, machine: Machine, wanted: Wanted) -> Fit:
        found = fit(model, machine, wanted)
        self._claims[who] = _Claim(found.need.host_bytes, found.need.gpu_bytes)
        return found

    def _open_claims(self) -> tuple[int, int]:
        """Returns what was promised and is not held yet: bytes of the system's memory, and on GPUs."""
        claims = list(self._claims.values())  # the event loop gives back while a thread is here
        host = sum(
            max(0, claim.host_bytes - (self._resident(claim.process) if claim.process else 0)) for claim in claims
        )
        return host, sum(claim.gpu_bytes for claim in claims if claim.loading)


def _less(machine: Machine, host_bytes: int, gpu_bytes: int) -> Machine:
    """Returns a machine without what others will take of it; each GPU gives by what it has free."""
    total = max(1, sum(gpu.free_bytes for gpu in machine.gpus))
    gpus = tuple(
        replace(gpu, free_bytes=max(0, gpu.free_bytes - gpu_bytes * gpu.free_bytes // total)) for gpu in machine.gpus
    )
    return replace(machine, free_bytes=max(0, machine.free_bytes - host_bytes), gpus=gpus)


class Fitter:
    """Fits one model, again for each start of its child.

    Args:
        reader: Its GGUF.
        spec: What the profile asks for.
        room: Where it has to fit.
    """

    def __init__(self, reader: ReadAt, spec: ModelSpec, room: Room) -> None:
        self._reader, self._wanted, self.room = reader, Wanted.of(spec), room
        self._facts: ModelFacts | None = None

    async def fit(self) -> Fit:
        """Returns the plan for the memory that is free now, and claims it.

        Raises:
            DoesNotFit: With the figures.
            BadInput: The header is not one.
            BadBundle: The header is not what was signed.
        """
        if self._facts is None:
            self._facts = await asyncio.to_thread(read_facts, self._reader)
        return await asyncio.to_thread(self.room.claim, self, self._facts, self._wanted)

    def reads_from(self, reader: ReadAt) -> None:
        self._reader = reader

    def started(self, process: int) -> None:
        self.room.started(self, process)

    def loaded(self) -> None:
        self.room.loaded(self)

    def give_back(self) -> None:
        self.room.give_back(self)


def read_facts(reader: ReadAt) -> ModelFacts:
    """Reads the header of a model in bounded memory; raises BadInput where it is none."""
    return model_facts(read_header(as_file(reader)))
