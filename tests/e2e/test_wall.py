"""A real box before the wall, in real time: what the caller gets, and what the provider saw.

The limits of the profile are short, so that a test takes seconds; the scorecard runs the same faults with real ones.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

pytestmark = [pytest.mark.llm, pytest.mark.timeout(300)]

MESSAGES: Any = [{"role": "user", "content": "why"}]
MORE = """
[[upstream]]
name = "expired"
base_url = "{0.expired}/v1"
model = "ok"

[[upstream]]
name = "untrusted"
base_url = "{0.untrusted}/v1"
model = "ok"

[[upstream]]
name = "nowhere"
base_url = "{0.no_such_name}/v1"
model = "ok"

[[upstream]]
name = "hole"
base_url = "{0.black_hole}/v1"
model = "ok"
connect_timeout_ms = 500
"""


@dataclass
class Walled:
    """A box, the wall behind it, and the unmodified client."""

    box: Any
    wall: Any
    wall_url: str
    client: openai.OpenAI
    text: str

    def fall_ill(self, fault: str) -> None:
        """Gives the primary a fault; the second provider stays well."""
        self.wall.act("primary", fault)
        self.wall.reset()

    def ask(self) -> tuple[str, str]:
        """Asks for a whole answer; returns its text and who served it."""
        answer = self.client.chat.completions.create(model="auto", messages=MESSAGES)
        facts: Any = answer.model_dump()["lifeboat"]
        return str(answer.choices[0].message.content).strip(), str(facts["served_by"])

    def stream(self) -> Iterator[Any]:
        """Asks for a stream; yields its chunks."""
        yield from self.client.chat.completions.create(model="auto", messages=MESSAGES, stream=True)

    def streamed(self) -> tuple[str, str]:
        chunks = [chunk.model_dump() for chunk in self.stream()]
        text = "".join(choice["delta"]["content"] or "" for chunk in chunks for choice in chunk["choices"])
        return text.strip(), str(chunks[-1]["lifeboat"]["served_by"])

    def asked(self, name: str) -> list[Any]:
        """What a provider was asked, probes left out."""
        return [seen for seen in self.wall.log if seen.path.startswith(f"/{name}/") and not seen.probe]

    def until(self, look: Callable[[], Any], limit_s: float = 60.0) -> None:
        """Waits until a look is true."""
        end = time.monotonic() + limit_s
        while not look():
            assert time.monotonic() < end, "it did not come"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def standing(
    fault_wall: Any, load_script: Callable[[str], Any], wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Walled]:
    wall, boxes = fault_wall.FaultWall(fault_wall.Timing(down_s=6.0)), load_script("failover_box")
    with fault_wall.standing(wall) as at:
        profile = boxes.PROFILE.format(wall=at.url, second=f"{at.url}/second/v1", first_ms=1_500, stall_ms=1_500)
        wall.act("primary", "ok")
        wall.act("second", "ok")
        folder = tmp_path_factory.mktemp("walled") / "box"
        with (
            boxes.serving(folder, profile + MORE.format(at), wheels=wheelhouse) as box,
            openai.OpenAI(base_url=f"{box.url}/v1", api_key=box.token, max_retries=0, timeout=30) as client,
        ):
            yield Walled(box, wall, at.url, client, fault_wall.TEXT)


@pytest.fixture
def walled(standing: Walled) -> Walled:
    """The primary is well, and serves."""
    standing.fall_ill("ok")
    standing.until(lambda: standing.ask()[1] == "primary")
    standing.wall.reset()
    return standing


@pytest.mark.parametrize(
    "fault", ["silent", "keepalives", "portal", "reset", "503", "error-first", "empty", "bad-gzip"]
)
def test_before_the_first_word_every_fault_is_somebody_elses_answer(walled: Walled, fault: str) -> None:
    """Whole and streamed: the second provider's text, whole; the primary is asked at most twice, then left alone."""
    walled.fall_ill(fault)
    assert walled.streamed() == (walled.text, "second")
    assert walled.ask() == (walled.text, "second")
    assert 1 <= len(walled.asked("primary")) <= 3
    assert len(walled.asked("second")) == 2


def test_a_silent_provider_is_let_go(walled: Walled) -> None:
    """The connection on which nothing comes is closed: the provider sees it."""
    walled.fall_ill("silent")
    walled.streamed()
    walled.until(lambda: walled.asked("primary")[0].left_ms is not None)


@pytest.mark.parametrize("fault", ["cut", "stall", "error-after-content", "cut-at-the-end"])
def test_a_part_is_never_given_as_the_whole(walled: Walled, fault: str) -> None:
    """A stream that breaks after its first word ends in an error that the client raises; the next one is served."""
    walled.fall_ill(fault)
    heard: list[str] = []
    with pytest.raises(openai.APIError):
        heard.extend(chunk.choices[0].delta.content or "" for chunk in walled.stream())
    assert len(walled.asked("primary")) == 1
    assert walled.streamed()[0] == walled.text


@pytest.mark.parametrize("fault", ["cut", "stall", "malformed", "garbage"])
def test_a_whole_answer_that_breaks_is_asked_elsewhere(walled: Walled, fault: str) -> None:
    """Nothing was handed out, so nothing is lost."""
    walled.fall_ill(fault)
    assert walled.ask() == (walled.text, "second")


@pytest.mark.parametrize("fault", ["malformed", "no-done", "no-finish", "crlf"])
def test_what_can_be_read_is_the_primarys_answer(walled: Walled, fault: str) -> None:
    """A chunk that is no JSON, a missing end, other line ends: every word comes, nobody else is asked."""
    walled.fall_ill(fault)
    assert walled.streamed() == (walled.text, "primary")
    assert walled.asked("second") == []


def test_a_content_filter_is_the_callers_to_see(walled: Walled) -> None:
    """No other provider is asked what one refused."""
    walled.fall_ill("content-filter")
    with pytest.raises(openai.BadRequestError):
        walled.ask()
    assert (len(walled.asked("primary")), len(walled.asked("second"))) == (1, 0)


def test_an_outage_and_its_end(walled: Walled) -> None:
    """Every request is served; few of them reach the primary while it is down; it serves again after it."""
    walled.fall_ill("flap")
    began = time.monotonic()
    while time.monotonic() < began + 6:
        assert walled.streamed()[0] == walled.text
        time.sleep(0.2)
    down = [seen for seen in walled.asked("primary") if seen.at_ms < 6_000]
    assert 1 <= len(down) <= 4
    walled.until(lambda: walled.ask()[1] == "primary")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("expired", "certificate is not trusted"),
        ("untrusted", "certificate is not trusted"),
        ("nowhere", "name is not found"),
        ("hole", "no connection in time"),
    ],
)
def test_below_http(walled: Walled, name: str, words: str) -> None:
    """Who names a provider that cannot be reached gets the reason, and no provider gets the key."""
    with pytest.raises(openai.InternalServerError, match=words):
        walled.client.chat.completions.create(model=name, messages=MESSAGES)
    assert walled.wall.log == []


def test_a_retry_storm(walled: Walled) -> None:
    """Fifty clients at once, twice, with the retries of the client library: all are served, the dead one is spared."""
    walled.fall_ill("503")

    async def storm() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{walled.box.url}/v1", api_key=walled.box.token, max_retries=2) as many:
            asking = [many.chat.completions.create(model="auto", messages=MESSAGES) for _ in range(50)]
            return await asyncio.gather(*asking)

    first = asyncio.run(storm())
    asked_first = len(walled.asked("primary"))
    second = asyncio.run(storm())
    assert {one.model_dump()["lifeboat"]["served_by"] for one in (*first, *second)} == {"second"}
    assert asked_first <= 60
    assert len(walled.asked("primary")) - asked_first <= 3


def test_who_leaves_ends_the_work(walled: Walled) -> None:
    """A client that goes in mid-stream is a client that the provider sees go."""
    walled.fall_ill("drip")
    chunks = walled.client.chat.completions.create(model="auto", messages=MESSAGES, stream=True)
    next(iter(chunks))
    chunks.close()
    walled.until(lambda: walled.asked("primary")[0].left_ms is not None)
    assert walled.asked("second") == []


def test_no_url_of_a_request_is_fetched(walled: Walled) -> None:
    """Neither one in the body, nor in a header or the request line; and a redirect is not followed."""
    trap = f"{walled.wall_url}/trap/v1/models"
    walled.fall_ill("redirect")
    parts = [{"type": "image_url", "image_url": {"url": trap}}, {"type": "text", "text": trap}]
    body = {"model": "auto", "messages": [{"role": "user", "content": parts}], "base_url": trap, "api_base": trap}
    headers = {"Authorization": f"Bearer {walled.box.token}", "X-Portkey-Custom-Host": trap, "X-Forwarded-Host": "x"}
    answer = httpx2.post(f"{walled.box.url}/v1/chat/completions", json=body, headers=headers, timeout=30)
    assert answer.json()["lifeboat"]["served_by"] == "second"
    assert {seen.path for seen in walled.wall.log} <= {
        "/primary/v1/chat/completions",
        "/second/v1/chat/completions",
        "/primary/v1/models",
    }


def test_killed_in_mid_stream_the_client_is_told(walled: Walled) -> None:
    """Kill -9 of the serving process: the client raises, and has no whole answer; the box serves again by itself."""
    walled.fall_ill("drip")
    chunks = walled.stream()
    heard = [next(chunks).choices[0].delta.content]
    os.kill(_serving(walled.box.process.pid), signal.SIGKILL)
    with pytest.raises((openai.APIError, httpx2.TransportError)):
        heard.extend(chunk.choices[0].delta.content for chunk in chunks)
    walled.fall_ill("ok")

    def serves() -> bool:
        with suppress(openai.APIError):
            return walled.ask()[0] == walled.text
        return False

    walled.until(serves)


def _serving(supervisor: int) -> int:
    """Returns the child of the supervisor that serves."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    assert children
    return int(children[0])
