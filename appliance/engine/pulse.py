"""Signs of life in shared memory: what the child does, seen by the parent without a message.

A page behind the buffer of the model. Writing it takes no lock and no system call, so the signs come also while the
link is busy; and a child that was stopped, or a thread that hangs, cannot pretend to move.

Four signs, since each part can hang alone: a thread that only beats (the process runs), the event loop (requests are
heard), the worker (a step ends) and llama.cpp within a step. The last is counted by C alone: llama.cpp calls
`sem_post(3)` on a semaphore of the page between two nodes of its graph, where a Python callback would want the
interpreter's lock hundreds of times a step.
"""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PAGE_BYTES = mmap.ALLOCATIONGRANULARITY
BEAT_S = 0.5
_SEMAPHORE_BYTES = 64  # sizeof(sem_t) is 32 on 64-bit glibc
# The semaphore holds 31 bits and at its end would make llama.cpp give up: a step has some ten thousand nodes at most.
_STEPS_A_RESET = 256


class _Page(ctypes.Structure):
    _fields_ = (
        ("nodes", ctypes.c_ubyte * _SEMAPHORE_BYTES),
        ("beats", ctypes.c_uint64),
        ("ticks", ctypes.c_uint64),
        ("steps", ctypes.c_uint64),
        ("busy", ctypes.c_uint64),
        ("resident_bytes", ctypes.c_uint64),
    )


@dataclass(frozen=True)
class Signs:
    """What the page holds at one moment.

    Attributes:
        beats: Grows while the process runs.
        ticks: Grows while its event loop runs; 0 before it does.
        work: Changes while the worker does: steps, and nodes within a step.
        busy: Whether the worker has work in hand.
        resident_bytes: Memory of its own that the child has in RAM.
    """

    beats: int
    ticks: int
    work: bytes
    busy: bool
    resident_bytes: int


class Pulse:
    """The child's end.

    Args:
        memory: Descriptor of the shared memory.
        offset_bytes: Where its page begins.
    """

    def __init__(self, memory: int, offset_bytes: int) -> None:
        self._page = _Page.from_buffer(mmap.mmap(memory, PAGE_BYTES, offset=offset_bytes))
        self._libc: Any = ctypes.CDLL(None)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="pulse", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def follow(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on the event loop counts too."""
        self._loop = loop

    def count_nodes(self, context: Any) -> None:
        """Lets llama.cpp count the nodes that it computes on the CPU; other devices have none of these calls."""
        import llama_cpp  # the parent reads pulses without it

        self._libc.sem_init(ctypes.byref(self._page.nodes), 1, 0)
        address = ctypes.cast(self._libc.sem_post, ctypes.c_void_p).value
        # sem_post returns 0, which is "go on"; the callback is C, so nothing can be collected under it.
        self._callback = llama_cpp.ggml_abort_callback(address)
        where = ctypes.cast(ctypes.byref(self._page.nodes), ctypes.c_void_p)
        llama_cpp.llama_set_abort_callback(context, self._callback, where)

    def rests(self) -> None:
        """The worker has nothing to do and waits."""
        self._page.busy = 0

    def works(self) -> None:
        """The worker begins a step; it alone calls this."""
        self._page.busy = 1
        self._page.steps += 1
        if self._page.steps % _STEPS_A_RESET == 0:
            self._libc.sem_init(ctypes.byref(self._page.nodes), 1, 0)

    def _beat(self) -> None:
        while not self._end.wait(BEAT_S):
            self._page.beats += 1
            with suppress(OSError):  # a full table of descriptors is no reason to fall silent
                self._page.resident_bytes = own_memory_bytes()
            if (loop := self._loop) is not None:
                with suppress(RuntimeError):  # the loop has ended, and the process is about to
                    loop.call_soon_threadsafe(self._tick)

    def _tick(self) -> None:
        self._page.ticks += 1


def look(memory: mmap.mmap, offset_bytes: int) -> Signs:
    """The parent's end: reads the page of a child."""
    page = _Page.from_buffer_copy(memory, offset_bytes)
    work = bytes(page.nodes) + int(page.steps).to_bytes(8, "little")
    return Signs(page.beats, page.ticks, work, bool(page.busy), page.resident_bytes)


def own_memory_bytes() -> int:
    """Returns what this process has in RAM and shares with no file (proc(5), statm)."""
    _, resident, shared = Path("/proc/self/statm").read_text().split()[:3]
    return (int(resident) - int(shared)) * mmap.PAGESIZE
