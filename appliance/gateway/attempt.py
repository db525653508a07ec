"""One attempt at a rung of OpenAI's wire as its route wants it: live or held to its end, and looked at at the end."""

from __future__ import annotations

import time
from typing import Any

from appliance.gateway import relay, validate
from appliance.gateway.call import Call, Told
from appliance.gateway.health import Asking
from appliance.gateway.held import Held, Room
from appliance.gateway.other_box import taken
from appliance.gateway.outcome import Failed, Kind
from appliance.gateway.relay import LiveStream
from appliance.gateway.upstream import Client
from bundler.format.service import HOLD

# A held answer may take half of the time that its call has left, so that another rung has the other half.
HOLD_SHARE = 2
# A whole answer, or a stream: one of them is None.
Attempted = tuple[dict[str, Any] | None, LiveStream | Held | None]


async def attempt(
    client: Client, call: Call, body: dict[str, Any], told: Told, room: Room, asking: Asking | None = None
) -> Attempted:
    """Returns a whole answer, or a stream from its commit; a provider's first token is told to `asking`.

    Raises:
        Failed: What came before that is not to be handed on.
    """
    limits = None if asking is None else asking.limits
    if not call.stream:
        whole = await relay.whole(client, call, body, limits)
        told.upstream = taken(whole)
        _check(validate.of_body(whole), call, client.target.model)
        return whole, None
    live = await relay.stream(client, call, body, limits)
    if asking is not None:
        asking.began()
    live.told = told
    if call.route.stream != HOLD:
        return None, live
    held = Held(live, room, told, trickle_s=0.0 if limits is None else limits.trickle_s)
    return None, await _gathered(held, call, told, client.target.model)


async def _gathered(held: Held, call: Call, told: Told, model: str) -> Held:
    now_s = time.monotonic()
    try:
        if await held.gather(now_s + max(0.0, call.deadline_s - now_s) / HOLD_SHARE):
            _check_held(held, call, told, model)
    except BaseException:
        held.close()
        raise
    return held


def _check_held(held: Held, call: Call, told: Told, model: str) -> None:
    if told.damaged_chunks:
        raise Failed(Kind.NOT_JSON, "a chunk of its stream cannot be read")
    _check(validate.of_chunks(chunk.value for chunk in held.values()), call, model)


def _check(said: validate.Said, call: Call, model: str) -> None:
    fault = validate.fault(said, validate.Wanted.of(call), model)
    if fault:
        raise Failed(Kind.INVALID, fault)
