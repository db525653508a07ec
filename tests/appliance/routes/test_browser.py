"""The chat page in a real Chromium, driven over its DevTools socket."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from bundler.format.service import RouteSpec

if TYPE_CHECKING:
    from tests.appliance.routes.conftest import FakeBox, World, Worlds

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")


class Page:
    """One page of the browser; `complaints` holds what its console said."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._number = socket, 0
        self.complaints: list[str] = []

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        while True:
            reply: dict[str, Any] = await self._socket.receive_json(timeout=60)
            if reply.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.complaints.append(str(reply["params"]))
            if reply.get("id") == self._number:
                assert "error" not in reply, reply
                found: dict[str, Any] = reply["result"]
                return found

    async def run(self, script: str) -> Any:
        reply = await self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in reply, reply
        return reply["result"].get("value")

    async def until(self, condition: str) -> Any:
        """Waits until a script gives something true."""
        for _ in range(600):
            if found := await self.run(condition):
                return found
            await asyncio.sleep(0.1)
        raise AssertionError(f"never true: {condition}; page: {await self.run('document.body.innerText')}")

    async def submit(self, name: str, text: str) -> None:
        await self.run(
            f"document.getElementById('tab-{name}').click();"
            f"document.getElementById('{name}-input').value = {text!r};"
            f"document.querySelector('[data-does={name}]').requestSubmit()"
        )


@asynccontextmanager
async def _browser(folder: Path) -> AsyncIterator[Page]:
    assert CHROMIUM is not None
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={folder}")
    process = subprocess.Popen([CHROMIUM, *flags, *QUIET, "about:blank"], stderr=subprocess.DEVNULL)  # noqa: ASYNC220 - a test may block
    try:
        port = _port(folder / "DevToolsActivePort")
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as reply:
                target = next(each for each in await reply.json() if each["type"] == "page")
            async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Page(socket)
                for domain in ("Log", "Runtime", "Page"):
                    await page.send(f"{domain}.enable")
                yield page
    finally:
        process.terminate()
        process.wait(60)


def _port(file: Path) -> str:
    for _ in range(600):
        if file.exists() and "\n" in (text := file.read_text()):
            return text.split("\n")[0]
        time.sleep(0.1)
    raise AssertionError("the browser did not start")


def _drive(folder: Path, story: Callable[[Page], Awaitable[None]]) -> Page:
    async def main() -> Page:
        async with _browser(folder) as page:
            await story(page)
            return page

    return asyncio.run(main())


def test_the_page_asks_chats_routes_and_searches(world: World, tmp_path: Path) -> None:
    """A token in the fragment leaves the address bar, and each tab shows its answer and what served it."""

    async def story(page: Page) -> None:
        await page.send("Page.navigate", url=f"{world.url}/#token={world.token}")
        await page.until("document.readyState === 'complete' && !document.getElementById('work').hidden")
        assert await page.run("location.href") == f"{world.url}/"
        await page.submit("ask", "how fast is the wipe?")
        shown = await page.until("document.getElementById('ask-out').innerText")
        assert "wiped remotely within 30 minutes" in shown
        assert "lost-device.md" in shown
        world.cloud.stop()
        await page.submit("chat", "hello <img src=x onerror=alert(1)>")
        shown = await page.until(
            "document.querySelector('.theirs .tags') && document.getElementById('chat-out').innerText"
        )
        assert "[small] one two three four" in shown
        assert "<img src=x onerror=alert(1)>" in shown
        assert await page.run("document.querySelectorAll('#chat-out img').length") == 0
        assert await page.run("document.getElementById('banner').innerText") == "Degraded mode."
        assert await page.run("document.getElementById('mode').innerText") == "LOCAL"
        await page.submit("route", "the printer smokes")
        assert "80 %" in await page.until("document.getElementById('route-out').innerText")
        await page.submit("search", "wipe")
        assert "score 1.50" in await page.until("document.getElementById('search-out').innerText")

    assert _drive(tmp_path / "chromium", story).complaints == []


def test_a_broken_stream_becomes_a_whole_answer(world: World, tmp_path: Path) -> None:
    """The page fetches it from the rest of the ladder, and says who gave it and why."""
    world.cloud.behaviour = "cut"

    async def story(page: Page) -> None:
        await page.send("Page.navigate", url=f"{world.url}/#token={world.token}")
        await page.until("document.readyState === 'complete' && !document.getElementById('work').hidden")
        await page.submit("chat", "hello")
        shown = await page.until(
            "document.querySelector('.theirs .tags') && document.getElementById('chat-out').innerText"
        )
        assert "[small] one two three four" in shown
        assert "[alpha]" not in shown
        assert "broke off in mid-answer" in await page.run("document.getElementById('chat-out').textContent")

    assert _drive(tmp_path / "chromium", story).complaints == []


def test_a_broken_stream_that_nobody_makes_whole_is_shown_as_broken(worlds: Worlds, tmp_path: Path) -> None:
    """The part stays visible, with words that say what is wrong."""
    world = worlds.make(change=_last_is_small)
    world.cloud.behaviour, world.engine.behaviour = "cut", "503"

    async def story(page: Page) -> None:
        await page.send("Page.navigate", url=f"{world.url}/#token={world.token}")
        await page.until("document.readyState === 'complete' && !document.getElementById('work').hidden")
        await page.submit("chat", "hello")
        shown = await page.until(
            "document.querySelector('.theirs .error') && document.getElementById('chat-out').innerText"
        )
        assert "one two" in shown
        assert "no rung can serve the request now" in shown

    _drive(tmp_path / "chromium", story)


def test_a_wrong_token_is_asked_for_again(world: World, tmp_path: Path) -> None:
    """It does not stay in the tab."""

    async def story(page: Page) -> None:
        await page.send("Page.navigate", url=f"{world.url}/#token=lb_wrong")
        await page.until("document.readyState === 'complete' && !document.getElementById('work').hidden")
        await page.submit("ask", "hello")
        assert "does not know that token" in await page.until("document.getElementById('token-error').innerText")
        assert await page.run("sessionStorage.length") == 0

    _drive(tmp_path / "chromium", story)


def _last_is_small(box: FakeBox) -> None:
    box.service = replace(box.service, routes=(RouteSpec("auto", ("alpha", "small")),))


def _loading(box: FakeBox) -> None:
    box.engines["small"].state = "loading"


def test_the_status_page_shows_mode_version_and_rungs(worlds: Worlds, tmp_path: Path) -> None:
    """Without a token."""
    world = worlds.make(change=_loading)

    async def story(page: Page) -> None:
        await page.send("Page.navigate", url=f"{world.url}/status")
        shown = await page.until("document.querySelector('#rungs tr') && document.body.innerText")
        assert "NORMAL" in shown
        assert "loading" in shown

    assert _drive(tmp_path / "chromium", story).complaints == []
