"""Which texts go into the next batch: tenants take turns, so that a large request holds up nobody. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(eq=False)
class Order:
    """The texts of one request, as tokens; `taken` of them are in batches."""

    tenant: str
    texts: Sequence[Sequence[int]]
    taken: int = field(default=0)


class Turns:
    """The orders that wait.

    Args:
        most_texts: Of a batch.
        batch_tokens: Of a batch; no text is longer.
    """

    def __init__(self, most_texts: int, batch_tokens: int) -> None:
        self._most_texts, self._batch_tokens = most_texts, batch_tokens
        self._waiting: dict[str, deque[Order]] = {}

    @property
    def idle(self) -> bool:
        return not self._waiting

    def add(self, order: Order) -> None:
        self._waiting.setdefault(order.tenant, deque()).append(order)

    def drop(self, order: Order) -> None:
        """Forgets an order; one that is over is forgotten already."""
        orders = self._waiting.get(order.tenant, ())
        if order in orders:
            self._waiting[order.tenant].remove(order)
            if not self._waiting[order.tenant]:
                del self._waiting[order.tenant]

    def batch(self) -> list[tuple[Order, int]]:
        """Returns texts (order, number) in the order of turns, up to the first that has no room any more."""
        chosen: list[tuple[Order, int]] = []
        room = self._batch_tokens
        while self._waiting and len(chosen) < self._most_texts:
            tenant, orders = next(iter(self._waiting.items()))
            order = orders[0]
            room -= len(order.texts[order.taken])
            if room < 0:
                break
            chosen.append((order, order.taken))
            self._turn(tenant, order)
        return chosen

    def _turn(self, tenant: str, order: Order) -> None:
        order.taken += 1
        orders = self._waiting.pop(tenant)
        if order.taken == len(order.texts):
            orders.popleft()
        if orders:
            self._waiting[tenant] = orders  # now the last
