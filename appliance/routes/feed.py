"""`GET /v1/events`: the mode, the pin and the state of each rung as server-sent events, one at once and one a change.

No `id:` and no `retry:` fields (they break clients); comments keep the line open.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar import Request, get
from litestar.types import ASGIApp

from appliance.answer.answering import Answering
from appliance.gateway.sse import KEEPALIVE, event
from appliance.routes.errors import ApiError
from appliance.routes.guards import monitor_guard
from appliance.routes.reply import Events

LOOK_S = 0.5
FEEDS_MAX = 32


@get("/v1/events", guards=[monitor_guard])
async def events(request: Request[Any, Any, Any]) -> ASGIApp:
    answering: Answering = request.app.state.answering
    open_feeds: set[object] = request.app.state.feeds
    if len(open_feeds) >= FEEDS_MAX:
        raise ApiError(429, "too_many_feeds", f"{FEEDS_MAX} clients read events already", headers={"Retry-After": "5"})
    mine = object()
    open_feeds.add(mine)
    return Events(changes(answering), lambda: open_feeds.discard(mine))


async def changes(answering: Answering) -> AsyncIterator[bytes]:
    """Yields an event for what is now and for each change, and comments between, until the version is left."""
    told, spoke_s = b"", time.monotonic()
    while not answering.leaving.is_set():
        now = msgspec.json.encode(standing(answering))
        if now != told:
            told, spoke_s = now, time.monotonic()
            yield event(now)
        elif time.monotonic() - spoke_s >= answering.settings.keepalive_s:
            spoke_s = time.monotonic()
            yield KEEPALIVE
        try:
            async with asyncio.timeout(LOOK_S):  # `wait_for` of Python 3.11 may lose a cancellation
                await answering.leaving.wait()
        except TimeoutError:
            continue


def standing(answering: Answering) -> dict[str, Any]:
    """Returns what an event tells; the seconds in a reason change with every look, so there are none."""
    rungs = [{"rung": state.rung, "kind": state.kind, "state": state.state} for state in answering.states()]
    return {"mode": answering.climber.mode, "pinned": answering.pinned.now.words, "rungs": rungs}
