"""Tries the knowledge of a version in a process of its own, before the one that serves takes it into its memory.

It may use what this machine has free less a reserve, and offers itself to the kernel as the first to go: a version that
exhausts the memory ends here, and what serves goes on.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from appliance.engine.machine import Machine
from appliance.engine.probe import resident_bytes
from bundler.format.bundle import Bundle
from bundler.format.errors import BadBundle
from bundler.format.manifest import encode_descriptor

COMMAND = ("-I", "-m", "appliance.host.trial_child")
LIMIT_S = 600
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "HOME", "LANG", "TMPDIR")
# What is left to everything else on the machine; and where it is so little that whoever asks next may be killed.
_LEFT_BYTES, _BRINK_BYTES = 96 * 2**20, 32 * 2**20
_LOOK_S = 0.05
_WORDS_BYTES, _SHOWN_CHARS = 65_536, 300
# What Python, onnxruntime, tokenizers (Rust) and the C++ library say where memory cannot be had.
_LACKS = re.compile(r"memory allocation of .* failed|MemoryError|bad_alloc|can't start new thread|alloc.*fail", re.I)


class NotProved(Exception):
    """A version does not answer as it must; the message says which part and what came.

    Attributes:
        short: It had not the memory.
    """

    def __init__(self, fact: str, *, short: bool = False) -> None:
        super().__init__(fact)
        self.short = short


@dataclass(frozen=True)
class Trial:
    """What a version's knowledge showed: lines of its self-test, and the memory it takes beside what serves.

    `failures` are cases that failed, with their questions: for a terminal, and never for a record on the disk.
    """

    lines: tuple[str, ...]
    passed: bool
    held_bytes: int
    failures: tuple[str, ...] = ()


async def tried(bundle: Bundle, look: Callable[[], Machine]) -> Trial:
    """Loads the knowledge of a bundle in a process of its own, and runs its self-test there.

    Args:
        bundle: An open bundle.
        look: Returns what the machine has now.

    Raises:
        NotProved: It cannot be loaded, or asks for more memory than there is (`short`).
        BadBundle: Something of it is not what was signed, or does not fit together.
    """
    if bundle.index.service.embedding is None:
        return Trial((), passed=True, held_bytes=0)
    free_bytes = (await asyncio.to_thread(look)).free_bytes
    if room_bytes(free_bytes) <= 0:
        raise NotProved(f"its knowledge was not loaded: {_mb(free_bytes)} of memory are free", short=True)
    told = await _child(_order(bundle, room_bytes(free_bytes)), free_bytes - _BRINK_BYTES)
    if told.get("damaged"):
        raise BadBundle(str(told["failed"]))
    if "failed" in told:
        raise NotProved(str(told["failed"]), short=bool(told.get("short")))
    trial = Trial(tuple(told["lines"]), bool(told["passed"]), int(told["held_bytes"]), tuple(told["failures"]))
    left = room_bytes((await asyncio.to_thread(look)).free_bytes)
    if trial.held_bytes > left:
        raise NotProved(f"its knowledge takes {_mb(trial.held_bytes)}, and {_mb(left)} are free for it", short=True)
    return trial


def failed_lines(lines: Sequence[str]) -> list[str]:
    """Returns what a self-test says of what did not hold, and examples. Pure."""
    return [line for line in lines if "FAILED" in line or ": expected " in line]


def room_bytes(free_bytes: int) -> int:
    """Returns what a version's knowledge may take of the memory that is free.

    Models leave a reserve to the rest of the box (`appliance.engine.fit`), and this is what it is for.
    """
    return free_bytes - _LEFT_BYTES


def _order(bundle: Bundle, room: int) -> bytes:
    order = {
        "parent": os.getpid(),
        "repository": str(bundle.volumes.root),
        "descriptor": encode_descriptor(bundle.descriptor).decode(),
        "identities": dict(bundle.volumes.identities),
        "room_bytes": room,
        "limit_s": LIMIT_S,
    }
    return json.dumps(order).encode()


async def _child(order: bytes, most_bytes: int) -> dict[str, Any]:
    """Runs the child, which may hold so much; its order holds keys and so goes through a pipe."""
    pipe = asyncio.subprocess.PIPE
    # Keys of providers stand in the environment; what parses foreign bytes has no use for them.
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    child = await asyncio.create_subprocess_exec(
        sys.executable, *COMMAND, stdin=pipe, stdout=pipe, stderr=pipe, env=environment
    )
    watching = asyncio.create_task(_watch(child, most_bytes))
    try:
        answer, words = await child.communicate(order)
    finally:
        watching.cancel()
        if child.returncode is None:  # whoever waited was told to stop
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()
    if child.returncode == 0:
        told: dict[str, Any] = json.loads(answer)
        return told
    return ended(int(child.returncode or 0), words[-_WORDS_BYTES:].decode(errors="replace"))


async def _watch(child: asyncio.subprocess.Process, most_bytes: int) -> None:
    """Ends a child before the kernel has to choose whom to end; its own limit counts what it asked for, too."""
    while True:
        await asyncio.sleep(_LOOK_S)
        if resident_bytes(child.pid) > most_bytes:
            with suppress(ProcessLookupError):
                child.kill()
            return


def ended(code: int, words: str) -> dict[str, Any]:
    """Returns how a trial went that ended without a word of its own. Pure."""
    last = words.strip().rsplit("\n", 1)[-1][:_SHOWN_CHARS]
    if code == -signal.SIGKILL:
        return {"failed": "loading its knowledge was ended for want of memory", "short": True}
    if code == -signal.SIGALRM:
        return {"failed": f"its knowledge did not answer its self-test within {LIMIT_S} s"}
    if lacks_memory(last):
        return {"failed": f"its knowledge does not fit into the memory that is free ({last})", "short": True}
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return {"failed": f"loading its knowledge ended with {how}{f': {last}' if last else ''}"}


def lacks_memory(words: str) -> bool:
    """Whether an error means that memory was short. Pure."""
    return _LACKS.search(words) is not None


def _mb(count: int) -> str:
    return f"{max(0, count) / 1e6:.0f} MB"
