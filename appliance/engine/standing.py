"""How a request stands among others: what the gateway tells an engine with it, written and read here. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

_PRIORITY, _TENANT, _DEADLINE_MS = "X-Lifeboat-Priority", "X-Lifeboat-Tenant", "X-Lifeboat-Deadline-Ms"
_PUBLIC = "X-Lifeboat-Public-Messages"
# From here on a request is critical, or one that can be done without; between them all are alike but for their order.
URGENT, CONVENIENT = -1, 2


@dataclass(frozen=True)
class Standing:
    """How a request stands among others.

    Attributes:
        priority: Lower goes first.
        tenant: Whose it is: tenants take turns.
        deadline_s: Seconds until it is of no use to begin.
        public_messages: How many of the first messages are text of the signed bundle.
    """

    priority: int = 0
    tenant: str = ""
    deadline_s: float = math.inf
    public_messages: int = 0


def may_wait(queue_requests: int, priority: int) -> int:
    """Returns how many requests may wait where one of this priority comes.

    What can be done without is refused while there is still half of the room, and there is a quarter beyond it that is
    kept for what cannot; so a crowd of the one kind never keeps the other out.
    """
    if priority >= CONVENIENT:
        return queue_requests // 2
    return queue_requests + max(1, queue_requests // 4) if priority <= URGENT else queue_requests


def to_headers(standing: Standing) -> dict[str, str]:
    """Returns the headers that say it; milliseconds are cut, so that nobody waits past a deadline."""
    told = {
        _PRIORITY: str(standing.priority),
        _TENANT: standing.tenant,
        _PUBLIC: str(standing.public_messages),
    }
    if math.isfinite(standing.deadline_s):
        told[_DEADLINE_MS] = str(int(max(0.0, standing.deadline_s) * 1000))
    return told


def from_headers(headers: Mapping[str, str]) -> Standing:
    """Reads the headers; what is not there stands as if nothing was said.

    Raises:
        ValueError: A number is none.
    """
    deadline = headers.get(_DEADLINE_MS)
    return Standing(
        priority=int(headers.get(_PRIORITY, "0")),
        tenant=headers.get(_TENANT, ""),
        deadline_s=math.inf if deadline is None else int(deadline) / 1000,
        public_messages=int(headers.get(_PUBLIC, "0")),
    )
