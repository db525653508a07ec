"""What the wires of all engines share: they listen on a Unix socket, read objects, and refuse in OpenAI's form."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
import uvloop
from aiohttp import web

from appliance.engine.desk import Desk
from appliance.engine.door import Door
from appliance.engine.options import Refused
from appliance.engine.pulse import Pulse
from appliance.engine.standing import Standing, from_headers
from appliance.engine.watchdog import EXIT_STUCK

EXIT_BROKEN = 42  # llama.cpp failed in the middle of its work: only a new process helps
BODY_BYTES = 16 * 2**20
READY, DRAINING = "ready", "draining"
_STUCK = "a request's preparation did not come to an end"
_RETRY_AFTER_S = 5
_FINISH_S = 30.0


class Working(Protocol):
    """The thread that calls llama.cpp."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


Make = Callable[[asyncio.AbstractEventLoop, Desk], tuple[web.Application, Working]]
Tell = Callable[[str, str], None]


def serve(make: Make, socket: str, pulse: Pulse, tell: Tell) -> None:
    """Serves until the process is told to end.

    Args:
        make: Makes the application and its worker, in the event loop; requests are prepared at the desk.
        socket: Where to listen.
        pulse: Told that the event loop runs.
        tell: Tells the parent a state and its reason: READY once the socket takes connections, DRAINING where this
            process takes no more requests of its own accord.
    """
    uvloop.run(_serve(make, socket, pulse, tell))


async def _serve(make: Make, socket: str, pulse: Pulse, tell: Tell) -> None:
    door, loop = Door(), asyncio.get_running_loop()
    door.listen(loop)
    pulse.follow(loop)
    desk = Desk(lambda: _give_up(door, loop, tell))
    app, worker = make(loop, desk)
    worker.start()
    runner = web.AppRunner(door.guard(app), access_log=None, shutdown_timeout=2.0, handler_cancellation=True)
    await runner.setup()
    try:
        await web.UnixSite(runner, socket).start()
        tell(READY, "")
        await door.closed()
    finally:
        await runner.cleanup()
        worker.stop()
        if desk.stuck:
            print(_STUCK, file=sys.stderr, flush=True)  # noqa: T201 - the log
        if desk.stuck or desk.busy:
            os._exit(EXIT_STUCK if desk.stuck else 0)  # the interpreter would wait for the threads


def _give_up(door: Door, loop: asyncio.AbstractEventLoop, tell: Tell) -> None:
    """Lets those inside finish, within a limit; then another process takes over."""
    door.shut()
    loop.call_later(_FINISH_S, door.cut)
    tell(DRAINING, _STUCK)


def end_broken(error: Exception) -> None:
    """Ends the process: its worker failed, and nobody would be answered any more."""
    print(f"the engine failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201
    os._exit(EXIT_BROKEN)


async def read_object(request: web.Request) -> dict[str, Any]:
    """Returns the body of a request; raises Refused where it is no JSON object, or too large."""
    try:
        body = await request.json()
    except web.HTTPRequestEntityTooLarge as error:
        words = f"the request body is larger than {BODY_BYTES} bytes"
        raise Refused(words, "request_too_large", 413) from error
    except (ValueError, RecursionError, web.RequestPayloadError) as error:
        raise Refused("the body is not JSON", "invalid_request") from error
    if not isinstance(body, dict):
        raise Refused("the body is not an object", "invalid_request")
    return body


def read_standing(request: web.Request) -> Standing:
    """Returns how a request stands among others; raises Refused where it cannot be read."""
    try:
        return from_headers(request.headers)
    except ValueError as error:  # not by the gateway
        raise Refused("a header of the standing is not a number", "invalid_request") from error


def refusal(refused: Refused) -> web.Response:
    """Returns the answer to a request that is not served."""
    headers = {"Retry-After": str(_RETRY_AFTER_S)} if refused.status in (429, 503) else {}
    return as_json(error_body(refused), status=refused.status, headers=headers)


def as_json(value: dict[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    data = msgspec.json.encode(value)
    return web.Response(body=data, status=status, headers=headers, content_type="application/json")


def error_body(refused: Refused) -> dict[str, Any]:
    """Returns a refusal as OpenAI's clients expect it."""
    kind = {429: "rate_limit_error", 500: "api_error", 503: "api_error"}.get(refused.status, "invalid_request_error")
    error = {"message": str(refused), "type": kind, "code": refused.code, "param": None}
    return {"error": error}
