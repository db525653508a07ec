"""Whether a version that keeps dying is started again or given up. Pure."""

from __future__ import annotations

from appliance.store.current import Boots

MOST_STARTS = 3
HEALTHY_S = 30.0
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.2, 30.0


def gives_up(boots: Boots, version: int) -> bool:
    """Whether a version had its chances."""
    return boots.version == version and boots.starts >= MOST_STARTS


def wait_s(failed: int) -> float:
    """Returns the seconds to wait before the next start after so many failed ones: none, then doubling."""
    return 0.0 if failed < 1 else min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(failed - 1, 16))
