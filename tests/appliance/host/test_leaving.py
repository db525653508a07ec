"""A box that stops: those inside get their answers within a limit, those who come are told to come again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from appliance.host.leaving import Leaving


class Slow:
    """Answers once it is released."""

    def __init__(self) -> None:
        self.release, self.begun, self.cuts = asyncio.Event(), asyncio.Event(), 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.begun.set()
        if scope["method"] == "POST":
            await self.release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def cut(self) -> None:
        self.cuts += 1
        self.release.set()


async def asked(leaving: Leaving, method: str, path: str) -> tuple[int, dict[bytes, bytes]]:
    said: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    await leaving({"type": "http", "method": method, "path": path}, None, send)
    return said[0]["status"], dict(said[0]["headers"])


@pytest.mark.parametrize("in_time", [True, False])
def test_those_inside_are_finished_and_the_next_refused(*, in_time: bool) -> None:
    """Within the limit nothing is cut; beyond it the engines are stopped, and then the box goes."""

    async def run() -> None:
        app = Slow()
        leaving = Leaving(app)
        inside = asyncio.create_task(asked(leaving, "POST", "/v1/chat/completions"))
        await app.begun.wait()
        leaves = asyncio.create_task(leaving.finish(60 if in_time else 0, app.cut))
        await asyncio.sleep(0)
        status, headers = await asked(leaving, "POST", "/v1/chat/completions")
        assert (status, headers[b"retry-after"], headers[b"connection"]) == (503, b"30", b"close")
        assert (await asked(leaving, "GET", "/health/ready"))[0] == 503
        assert (await asked(leaving, "GET", "/health/live"))[0] == 200
        if in_time:
            assert not leaves.done()
            app.release.set()
        assert (await inside)[0] == 200
        await leaves
        assert app.cuts == (0 if in_time else 1)

    asyncio.run(run())


def test_an_idle_box_leaves_at_once() -> None:
    """Nobody is inside: nothing is waited for and nothing cut."""

    async def run() -> int:
        app = Slow()
        await asyncio.wait_for(Leaving(app).finish(3600, app.cut), 60)
        return app.cuts

    assert asyncio.run(run()) == 0
