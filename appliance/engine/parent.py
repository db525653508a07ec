"""Supervises one engine: starts the child, feeds its reads, watches it, starts it again with backoff."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from appliance.engine import transfer
from appliance.engine.child import EXIT_MISSING, EXIT_NO_MEMORY, EXIT_REFUSED
from appliance.engine.fit import DoesNotFit, Fit, Wanted
from appliance.engine.fitting import Fitter, Room
from appliance.engine.reading import ReadAt
from bundler.format.errors import LifeboatError
from bundler.format.service import ModelSpec

_MISSING_RETRY_S = 5.0
_BACKOFF_LONGEST_S = 60.0
_STOP_S = 5.0
SEQUENCES = 16  # requests at once, where memory allows
_SPINS = "1000"
_ENVIRONMENT = ("GOMP_SPINCOUNT", "PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "HOME", "LANG")


class Engine:
    """One local model.

    Args:
        spec: The model.
        reader: Its GGUF; each read is checked.
        runtime_dir: Private folder for the socket.
        threads: Threads of computation, or None for what suits the machine.
        queue_requests: How many may wait.
        room: The memory that the engines of this process share; None for a view of its own.

    Attributes:
        state: "loading", "ready", "missing" (llama-cpp-python is not installed) or "failed".
        reason: Why it is not ready.
        device: "cpu" or "gpu", once ready.
        fit: How the model runs in the memory of this machine and why, once that is known.
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
    ) -> None:
        self.spec, self._reader, self._threads = spec, reader, threads
        self.fit: Fit | None = None
        self._fitter = Fitter(reader, Wanted(spec.context_tokens, SEQUENCES), room or Room())
        self._queue_requests = queue_requests
        # A short name: a socket's whole path has at most 107 bytes.
        self.socket = runtime_dir / f"{hashlib.sha256(spec.name.encode()).hexdigest()[:8]}.sock"
        self.state, self.reason, self.device = "loading", "", ""
        self._settled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Starts the child and waits until it is ready or cannot be."""
        self._task = asyncio.create_task(self._supervise())
        await self._settled.wait()

    def start_soon(self) -> None:
        """Starts the child and returns at once; `state` tells when it is ready."""
        self._task = asyncio.create_task(self._supervise())

    async def stop(self) -> None:
        """Ends the child and its supervision."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _supervise(self) -> None:
        backoff_s = 1.0
        while True:
            self.state = "loading" if self.state != "missing" else "missing"
            try:
                code = await self._run(await self._fit())
            except DoesNotFit as refusal:  # tried again: memory may come free
                self.fit, self.reason, code = None, f"{refusal.fact}; {refusal.hint}", EXIT_NO_MEMORY
            except LifeboatError as failure:
                self.reason, code = failure.fact, EXIT_REFUSED
            if code == EXIT_MISSING:
                self.state, self.reason, wait_s = "missing", "llama-cpp-python is not installed", _MISSING_RETRY_S
            elif code == EXIT_REFUSED:
                self.state = "failed"
                self._settled.set()
                return
            elif code == EXIT_NO_MEMORY:  # the reason holds the figures
                self.state, wait_s = "failed", backoff_s
                backoff_s = min(_BACKOFF_LONGEST_S, backoff_s * 2)
            else:
                self.state, self.reason, wait_s = "failed", f"the engine ended with code {code}", backoff_s
                backoff_s = min(_BACKOFF_LONGEST_S, backoff_s * 2)
            self._settled.set()
            await asyncio.sleep(wait_s)

    async def _run(self, fit: Fit) -> int:
        """Runs one child to its end; returns its exit code."""
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        buffer = transfer.make_buffer()
        self.socket.unlink(missing_ok=True)
        try:
            with theirs:
                self._process = await self._spawn(theirs.fileno(), buffer)
            self._fitter.started(self._process.pid)
            mine.send(json.dumps(self._order(fit)).encode())
            # A thread of its own: it lives as long as the child, and must not take a place in the shared pool.
            feeding = asyncio.get_running_loop().run_in_executor(None, self._feed, mine, buffer)
            code = await self._process.wait()
            with suppress(OSError):
                mine.shutdown(socket.SHUT_RDWR)
            await feeding
            return code
        finally:
            await self._end()
            self._fitter.give_back()
            mine.close()
            os.close(buffer)

    def _feed(self, link: socket.socket, buffer: int) -> None:
        failure = transfer.serve_reads(link, buffer, self._reader, self._on_status)
        if failure is not None:
            self.reason = failure.fact

    def _on_status(self, status: dict[str, Any]) -> None:
        if status.get("ready"):
            self.state, self.reason, self.device = "ready", "", str(status.get("device", ""))
            self._fitter.loaded()
            if self._task is not None:
                self._task.get_loop().call_soon_threadsafe(self._settled.set)
        elif "failed" in status:
            self.reason = str(status["failed"])[:500]

    async def _spawn(self, link: int, buffer: int) -> asyncio.subprocess.Process:
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        # ggml would start a debugger on its own process after a failed assertion, and print what is in memory.
        environment["GGML_NO_BACKTRACE"] = "1"
        # OpenMP's threads would spin at each of the hundreds of barriers of a token, and whoever else needs the core
        # keeps them all waiting. Measured beside two busy processes on two cores: 27 tokens a second in place of 0.3
        # to 12; and as many as ever where nothing else runs.
        environment.setdefault("GOMP_SPINCOUNT", _SPINS)
        command = [sys.executable, "-I", "-m", "appliance.engine.child", str(link), str(buffer), str(os.getpid())]
        os.set_inheritable(buffer, True)  # noqa: FBT003
        return await asyncio.create_subprocess_exec(
            *command, env=environment, pass_fds=(link, buffer), stdin=asyncio.subprocess.DEVNULL
        )

    async def _fit(self) -> Fit:
        """Fits the model into what is free now; raises DoesNotFit, or what reading the header raises."""
        found = await self._fitter.fit()
        if self._threads is not None:
            found = replace(found, plan=replace(found.plan, threads=self._threads, batch_threads=self._threads))
        self.fit = found
        return found

    def _order(self, fit: Fit) -> dict[str, Any]:
        return {
            "name": self.spec.name,
            "digest": self.spec.digest,
            "size": self._reader.size,
            "plan": asdict(fit.plan),
            "max_output_tokens": self.spec.max_output_tokens,
            "queue_requests": self._queue_requests,
            "socket": str(self.socket),
        }

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(transfer.STOP)
        try:
            await asyncio.wait_for(process.wait(), _STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()
