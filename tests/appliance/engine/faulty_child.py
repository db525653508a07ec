"""The engine's child with faults that a request asks for by a word; tests start it in place of the real one."""

from __future__ import annotations

import os
import signal
import time

from aiohttp import web

from appliance.engine import child

EATEN_BYTES = 400 * 10**6
_read = web.BaseRequest.read


async def _faulty_read(request: web.BaseRequest) -> bytes:
    body = await _read(request)
    if b"POISON" in body:
        os.kill(os.getpid(), signal.SIGSEGV)
    if b"DEAFEN" in body:
        time.sleep(3600)  # noqa: ASYNC251 - an event loop that hangs is the fault
    if b"DEVOUR" in body:
        request.app["eaten"] = b"x" * EATEN_BYTES  # type: ignore[attr-defined]
    if b"FREEZE" in body:
        from appliance.engine.model import Model

        Model.decode = lambda *_: time.sleep(3600)  # type: ignore[assignment, method-assign]
    return body


web.BaseRequest.read = _faulty_read  # type: ignore[assignment, method-assign]

if __name__ == "__main__":
    child.main()
