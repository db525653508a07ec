"""The engine's child with faults that a request asks for by a word; tests start it in place of the real one."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from aiohttp import web

from appliance.engine import child, desk
from appliance.engine.desk import Desk

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
    if b"TANGLE" in body:
        from appliance.engine.prepare import Preparer

        render = Preparer._render
        Preparer._render = lambda *words: _tangled(words) or render(*words)  # type: ignore[method-assign]
    if b"FREEZE" in body:
        from appliance.engine.model import Model

        Model.decode = lambda *_: time.sleep(3600)  # type: ignore[assignment, method-assign]
    return body


web.BaseRequest.read = _faulty_read  # type: ignore[assignment, method-assign]


def _tangled(words: tuple[object, ...]) -> str:
    if "TANGLE" in str(words[1]):
        time.sleep(3600)
    return ""


class ShortDesk(Desk):
    """A desk that tests can wait for."""

    def __init__(self, on_stuck: Callable[[], None]) -> None:
        super().__init__(on_stuck, limit_s=1.0, grace_s=1.0)


if __name__ == "__main__":
    desk.Desk = ShortDesk  # type: ignore[assignment, misc]
    child.main()
