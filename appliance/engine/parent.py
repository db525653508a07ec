"""Supervises one engine: starts the child, watches it, starts it again with backoff, and lets it finish."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from appliance.engine import transfer
from appliance.engine.child import EXIT_MISSING, EXIT_NO_MEMORY, EXIT_REFUSED, EXIT_UNREAD
from appliance.engine.fit import DoesNotFit, Fit
from appliance.engine.fitting import Fitter, Room
from appliance.engine.memory import limit_bytes
from appliance.engine.process import COMMAND, Child
from appliance.engine.reading import ReadAt
from appliance.engine.watchdog import Patience, Seen, Watch, may_heal, next_wait_s, why
from bundler.format.errors import LifeboatError
from bundler.format.service import ModelSpec

_MISSING_RETRY_S = 5.0
_NOTICE_S = 2.0  # the end of a child is seen some moments after its connections broke


class Engine:
    """One local model.

    Args:
        spec: The model.
        reader: Its GGUF; each read is checked.
        runtime_dir: Private folder for the socket.
        threads: Threads of computation, or None for what suits the machine.
        queue_requests: How many may wait.
        room: The memory that the engines of this process share; None for a view of its own.
        patience: When the child is given up.
        memory_bytes: What the child may have in RAM, or None for what follows from its fit.
        command: What to run as the child.

    Attributes:
        state: "loading", "ready", "draining", "missing" (llama-cpp-python is not installed) or "failed".
        reason: Why it is not ready.
        device: "cpu" or "gpu", once ready.
        fit: How the model runs in the memory of this machine and why, once that is known.
        generation: How many children became ready so far.
        restarts: How many ended that nobody had told to.
        last_end: Why the last of them ended.
        short: It is not ready for want of memory.
        load_s: How long the last child took to become ready.
    """

    def __init__(
        self,
        spec: ModelSpec,
        reader: ReadAt,
        *,
        runtime_dir: Path,
        threads: int | None,
        queue_requests: int,
        room: Room | None = None,
        patience: Patience | None = None,
        memory_bytes: int | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.spec, self._reader, self._threads = spec, reader, threads
        self.fit: Fit | None = None
        self._fitter = Fitter(reader, spec, room or Room())
        self._queue_requests = queue_requests
        self._patience, self._command = patience or Patience(), command
        self._memory_bytes = memory_bytes
        # A short name: a socket's whole path has at most 107 bytes.
        self.socket = runtime_dir / f"{hashlib.sha256(spec.name.encode()).hexdigest()[:8]}.sock"
        self.state, self.reason, self.device = "loading", "", ""
        self.generation, self.restarts, self.last_end, self.load_s = 0, 0, "", 0.0
        self._settled, self._changed, self._stopping = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.short = False
        self._over = True
        self._task: asyncio.Task[None] | None = None
        self._child: Child | None = None
        self._began_s = self._ready_s = 0.0
        self._verdict = self._told = ""

    def reads_from(self, reader: ReadAt) -> None:
        """Lets the next child read the same model from elsewhere."""
        self._reader = reader
        self._fitter.reads_from(reader)

    @property
    def over(self) -> bool:
        """Whether it was never started, or was told to end."""
        return self._over

    async def start(self) -> None:
        """Starts the child and waits until it is ready or cannot be."""
        self.start_soon()
        await self._settled.wait()

    async def settled(self, limit_s: float) -> None:
        """Waits while a child loads, at most so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while self.state == "loading":
                    await self._changed.wait()

    def start_soon(self) -> None:
        """Starts the child and returns at once; `state` tells when it is ready."""
        self.short = False
        self._settled.clear()
        self._stopping.clear()
        self._over, self.state = False, "loading"
        self._task = asyncio.create_task(self._supervise())

    async def stop(self) -> None:
        """Ends the child and its supervision; answers in progress end with an error."""
        self._over = True
        self._become("draining", "it was told to stop")
        self._stopping.set()
        if self._task is not None:
            # Not cancelled: it would leave in the middle of its cleaning up.
            await asyncio.wait({self._task})
            self._task.result()

    async def drain(self, limit_s: float) -> None:
        """Takes no new request, finishes what was accepted, then ends; what is left after `limit_s` gets an error."""
        self._over = True
        self._become("draining", "it finishes what it has accepted")
        if self._child is not None and self._task is not None:
            self._child.signal(transfer.DRAIN)
            await asyncio.wait({self._task}, timeout=limit_s)
        await self.stop()

    async def back(self, after: int, limit_s: float) -> bool:
        """Waits for a child that is newer than generation `after`.

        Returns:
            Whether there is one; False at once where none will come, or loading takes longer than `limit_s`, and soon
            where the old one has not ended at all.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                if self.state == "ready" and self.generation <= after:
                    async with asyncio.timeout(_NOTICE_S):  # `wait_for` of Python 3.11 may lose a cancellation
                        await self._changed.wait()
                while self.generation <= after or self.state != "ready":
                    if self._over or self.load_s > limit_s:
                        return False
                    await self._changed.wait()
                return True
        return False

    async def _supervise(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            self._become("missing" if self.state == "missing" else "loading", self.reason)
            code, reason = await self._one_child()
            if self._over:
                return
            served_s = time.monotonic() - self._ready_s if self._ready_s else 0.0
            failures = 1 if served_s >= self._patience.healthy_s else failures + 1
            wait_s = self._ended(code, reason, failures)
            self._settled.set()
            if wait_s is None:
                return
            await self._rest(wait_s)

    async def _rest(self, wait_s: float) -> None:
        """Waits before the next start, or until the engine is told to stop."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), wait_s)

    def _ended(self, code: int, reason: str, failures: int) -> float | None:
        """Notes an end that nobody asked for; returns the wait before the next start, or None for no more."""
        if code == EXIT_MISSING:
            self._become("missing", "llama-cpp-python is not installed")
            return _MISSING_RETRY_S
        if code == EXIT_REFUSED:
            self._over = True
            self._become("failed", reason)
            return None
        self.short = code == EXIT_NO_MEMORY
        if code in (EXIT_NO_MEMORY, EXIT_UNREAD):  # memory may come free, a medium may come back
            self._become("failed", reason)
            return next_wait_s(failures + 1)
        self.restarts, self.last_end = self.restarts + 1, reason
        wait_s = next_wait_s(failures)
        # Started at once: not "failed" even for a moment, in which whoever named the model would get an error.
        self._become("failed" if wait_s else "loading", reason)
        return wait_s

    async def _one_child(self) -> tuple[int, str]:
        """Runs one child to its end, where the model fits; returns its exit code, and why it ended."""
        self._ready_s = 0.0
        try:
            fit = await self._fit()
        except DoesNotFit as refusal:
            self.fit = None
            return EXIT_NO_MEMORY, f"{refusal.fact}; {refusal.hint}"
        except (LifeboatError, OSError) as failure:
            return _unread(failure)
        try:
            return await self._run(fit)
        except OSError as failure:  # no process, no descriptor, no memory for either: it may pass
            return EXIT_NO_MEMORY, f"the engine cannot be started: {failure}"
        finally:
            self._fitter.give_back()

    async def _fit(self) -> Fit:
        """Fits the model into what is free now; raises DoesNotFit, or what reading the header raises."""
        found = await self._fitter.fit()
        if self._threads is not None:
            found = replace(found, plan=replace(found.plan, threads=self._threads, batch_threads=self._threads))
        self.fit = found
        return found

    async def _run(self, fit: Fit) -> tuple[int, str]:
        self._began_s, self._ready_s, self._verdict, self._told = time.monotonic(), 0.0, "", ""
        self.socket.unlink(missing_ok=True)
        self._child = child = await Child.start(self._command, self._order(fit), self._reader, self._on_status)
        self._fitter.started(child.pid)
        ended, stopping = asyncio.create_task(child.wait()), asyncio.create_task(self._stopping.wait())
        memory_bytes = self._memory_bytes or limit_bytes(fit.need.host_bytes)
        watch, limit_s = Watch(self._patience, memory_bytes), self._patience.look_s
        try:
            while not (await asyncio.wait({ended, stopping}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED))[0]:
                self._look(child, watch)
        finally:
            stopping.cancel()
            await child.end(self._patience.stop_s)
            await asyncio.wait({ended, stopping})
            await child.close()
            self._child = None
            self.socket.unlink(missing_ok=True)
        if child.failure is not None and not self._verdict:
            return _unread(child.failure)
        return ended.result(), self._verdict or self._told or why(ended.result())

    def _look(self, child: Child, watch: Watch) -> None:
        """Kills a child that shows no life or takes too much."""
        seen = Seen(child.signs(), child.reads, ready=bool(self._ready_s))
        verdict = watch.look(seen, time.monotonic())
        if verdict is None:
            return
        self._verdict = self._verdict or verdict
        # Not when it is reaped: a process that hangs in a driver may outlive even this signal.
        if not self._over:
            self._become("failed", self._verdict)
        child.kill()

    def _on_status(self, status: dict[str, Any]) -> None:
        if status.get("ready") and not self._over:
            self._ready_s = time.monotonic()
            self.load_s = self._ready_s - self._began_s
            self.device = str(status.get("device", ""))
            self.generation += 1
            self._fitter.loaded()
            self._become("ready", "")
            self._settled.set()
        elif status.get("draining") and not self._over:
            # Of its own accord: it answers those inside, and the next one takes over.
            self._become("draining", str(status.get("reason", ""))[:500])
        elif "failed" in status:
            self._told = str(status["failed"])[:500]

    def _become(self, state: str, reason: str) -> None:
        self.state, self.reason = state, reason
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _order(self, fit: Fit) -> dict[str, Any]:
        return {
            "name": self.spec.name,
            "digest": self.spec.digest,
            "serves": self.spec.serves,
            "size": self._reader.size,
            "plan": asdict(fit.plan),
            "max_output_tokens": self.spec.max_output_tokens,
            "queue_requests": self._queue_requests,
            "socket": str(self.socket),
        }


def _unread(failure: LifeboatError | OSError) -> tuple[int, str]:
    """Returns how a start ends whose model could not be read, and why."""
    fact = failure.fact if isinstance(failure, LifeboatError) else f"the model cannot be read: {failure}"
    return (EXIT_UNREAD if may_heal(failure) else EXIT_REFUSED), fact
