"""How much memory an engine may have, so that a model that grows takes itself down and not the box.

Its child is watched by what it holds in RAM. RLIMIT_AS would count address space, of which CUDA reserves more than any
machine has; RLIMIT_DATA counts what was asked for and not yet touched. A child that outruns the watch is the first that
the kernel ends, since it raises its own `oom_score_adj`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from appliance.engine.machine import group_folders, group_limit_bytes

_SHARE = 0.9
_SLACK_BYTES = 2**30
_CGROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
# What ggml's backends, llama.cpp and the C++ library say where a buffer cannot be had.
_LACKS = re.compile(
    r"(fail|unable|cannot|could not)\w*\b.{0,80}\b(re)?(alloc|reserve)|bad_alloc|out of memory", re.IGNORECASE
)
_SCORE = Path("/proc/self/oom_score_adj")
_FIRST_TO_GO = "1000"  # proc(5): the highest, so that the kernel takes it before anything else


def limit_bytes(need_bytes: int) -> int:
    """Returns what a child may hold in RAM that needs so much by computation: far more means that it grows for ever."""
    return min(2 * need_bytes + _SLACK_BYTES, most_memory_bytes())


def most_memory_bytes() -> int:
    """Returns nine tenths of what the machine has, or the container where that is less."""
    return int(_SHARE * min(_machine_bytes(), *_group_bytes()))


def lacks_memory(words: Sequence[str]) -> bool:
    """Whether the errors that llama.cpp told of a load mean that memory was short, and not that the model is no good.

    Where it told nothing that counts as short memory: one wrong start more costs less than never to start again.
    """
    return not words or any(_LACKS.search(line) for line in words)


def first_to_go() -> str:
    """Offers this process to the kernel for the day that the machine runs out of memory; returns what it stood at."""
    before = _SCORE.read_text()
    _SCORE.write_text(_FIRST_TO_GO)
    return before


def no_longer_first(before: str) -> None:
    """Takes the offer back."""
    _SCORE.write_text(before)


def _machine_bytes() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:"))


def _group_bytes() -> Iterator[int]:
    """The limits of this process's control groups and of those around them, version 1 and 2; no limit is 2**63."""
    yield 2**63
    for folder in group_folders(_OWN_GROUPS.read_text(), "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            file = _CGROUPS / folder / name
            if file.is_file() and (limit := group_limit_bytes(file.read_text())) is not None:
                yield limit
