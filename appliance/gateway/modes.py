"""The box's mode: NORMAL when the first upstream serves, DEGRADED when another does, LOCAL when the box does. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

NORMAL, DEGRADED, LOCAL = "NORMAL", "DEGRADED", "LOCAL"


def next_mode(mode: str, *, upstreams: Sequence[str], passed: Collection[str], served: str | None) -> str:
    """Returns the mode after one request.

    Only evidence about upstreams moves the mode: an answer of an upstream, or a request that passed all of them.
    A request that never concerned them (an FAQ question, a pinned local model) leaves it alone.

    Args:
        mode: The mode before.
        upstreams: The upstream rungs, best first; without any the box itself is the normal service.
        passed: The rungs that failed or were being left alone.
        served: The rung that answered, or None when none did.
    """
    if not upstreams:
        return NORMAL
    if served == upstreams[0]:
        return NORMAL
    if served in upstreams:
        # A later upstream may have been asked by its own name: that says nothing about the first one.
        return DEGRADED if upstreams[0] in passed or mode == LOCAL else mode
    return LOCAL if set(upstreams) <= set(passed) else mode
