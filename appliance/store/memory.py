"""Keeps what this process knows out of files: no core dumps, and no look into its memory by others of its user."""

from __future__ import annotations

import ctypes
import resource

_PR_SET_DUMPABLE = 4  # linux/prctl.h


def keep_in_memory() -> None:
    """Turns core dumps off, those that are piped to a program included: a limit of 0 does not stop them (core(5))."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
