"""Supervises one engine: starts the child, feeds its reads, watches it, starts it again with backoff."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from appliance.engine import transfer
from appliance.engine.child import EXIT_MISSING, EXIT_REFUSED
from appliance.engine.reading import ReadAt
from bundler.format.service import ModelSpec

_MISSING_RETRY_S = 5.0
_BACKOFF_LONGEST_S = 60.0
_STOP_S = 5.0
_SEQUENCES = 16  # requests at once, where memory allows
_SPINS = "1000"
_ENVIRONMENT = ("GOMP_SPINCOUNT", "PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "HOME", "LANG")


class Engine:
    """One local model.

    Args:
        spec: The model.
        reader: Its GGUF; each read is checked.
        runtime_dir: Private folder for the socket.
        threads: Threads of computation, or None for one a core.
        queue_requests: How many may wait.

    Attributes:
        state: "loading", "ready", "missing" (llama-cpp-python is not installed) or "failed".
        reason: Why it is not ready.
        device: "cpu" or "gpu", once ready.
    """

    def __init__(
        self, spec: ModelSpec, reader: ReadAt, *, runtime_dir: Path, threads: int | None, queue_requests: int
    ) -> None:
        self.spec, self._reader = spec, reader
        self._threads = threads or max(1, len(os.sched_getaffinity(0)))
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
            code = await self._run()
            if code == EXIT_MISSING:
                self.state, self.reason, wait_s = "missing", "llama-cpp-python is not installed", _MISSING_RETRY_S
            elif code == EXIT_REFUSED:
                self.state = "failed"
                self._settled.set()
                return
            else:
                self.state, self.reason, wait_s = "failed", f"the engine ended with code {code}", backoff_s
                backoff_s = min(_BACKOFF_LONGEST_S, backoff_s * 2)
            self._settled.set()
            await asyncio.sleep(wait_s)

    async def _run(self) -> int:
        """Runs one child to its end; returns its exit code."""
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        buffer = transfer.make_buffer()
        self.socket.unlink(missing_ok=True)
        try:
            with theirs:
                self._process = await self._spawn(theirs.fileno(), buffer)
            mine.send(json.dumps(self._order()).encode())
            # A thread of its own: it lives as long as the child, and must not take a place in the shared pool.
            feeding = asyncio.get_running_loop().run_in_executor(None, self._feed, mine, buffer)
            code = await self._process.wait()
            with suppress(OSError):
                mine.shutdown(socket.SHUT_RDWR)
            await feeding
            return code
        finally:
            await self._end()
            mine.close()
            os.close(buffer)

    def _feed(self, link: socket.socket, buffer: int) -> None:
        failure = transfer.serve_reads(link, buffer, self._reader, self._on_status)
        if failure is not None:
            self.reason = failure.fact

    def _on_status(self, status: dict[str, Any]) -> None:
        if status.get("ready"):
            self.state, self.reason, self.device = "ready", "", str(status.get("device", ""))
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

    def _order(self) -> dict[str, Any]:
        return {
            "name": self.spec.name,
            "digest": self.spec.digest,
            "size": self._reader.size,
            "context_tokens": self.spec.context_tokens,
            "sequences": _SEQUENCES,
            "max_output_tokens": self.spec.max_output_tokens,
            "threads": self._threads,
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
