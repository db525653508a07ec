"""A real box before the wall, in real time: what the caller gets, and what the provider saw.

Each fault is an upstream of its own, with a healthy second one behind it in two routes: one gives words as they come,
one holds them. The limits are short, so that a test takes seconds; the scorecard runs the same faults with real ones.
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
BEFORE = ("silent", "keepalives", "portal", "error-first", "bad-gzip")
BROKEN = ("cut", "stall", "error-after-content", "cut-at-the-end")
READABLE = ("malformed", "no-done", "crlf")
OTHERS = ("ok", "503", "content-filter", "flap", "drip", "redirect")
LIMITS = {"connect_ms": 500, "first_ms": 1_500, "stall_ms": 1_500}


def profile(boxes: Any, at: Any) -> str:
    """Returns the profile of all faults."""
    base = boxes.PROFILE.format(wall=at.url, second=f"{at.url}/second/v1", **LIMITS)
    below = {"expired": at.expired, "untrusted": at.untrusted, "nowhere": at.no_such_name, "hole": at.black_hole}
    faults = (*BEFORE, *BROKEN, *READABLE, *OTHERS)
    places = {name: f"{at.url}/{name}" for name in faults} | below
    parts = [boxes.upstream(name, url, **LIMITS) for name, url in places.items()]
    return "".join([base, *parts, *(boxes.routes(name, name, "second") for name in faults)])


@dataclass
class Walled:
    """A box, the wall behind it, and the unmodified client."""

    box: Any
    wall: Any
    wall_url: str
    client: openai.OpenAI
    text: str

    def ask(self, model: str) -> tuple[str, str]:
        """Asks for a whole answer; returns its text and who served it."""
        answer = self.client.chat.completions.create(model=model, messages=MESSAGES)
        facts: Any = answer.model_dump()["lifeboat"]
        return str(answer.choices[0].message.content).strip(), str(facts["served_by"])

    def stream(self, model: str) -> Iterator[Any]:
        """Asks for a stream; yields its chunks."""
        yield from self.client.chat.completions.create(model=model, messages=MESSAGES, stream=True)

    def streamed(self, model: str) -> tuple[str, str]:
        chunks = [chunk.model_dump() for chunk in self.stream(model)]
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
    wall, boxes = fault_wall.FaultWall(fault_wall.Timing(down_s=4.0)), load_script("failover_box")
    wall.act("primary", "ok")
    wall.act("second", "ok")
    with (
        fault_wall.standing(wall) as at,
        boxes.serving(tmp_path_factory.mktemp("walled") / "box", profile(boxes, at), wheels=wheelhouse) as box,
        openai.OpenAI(base_url=f"{box.url}/v1", api_key=box.token, max_retries=0, timeout=30) as client,
    ):
        yield Walled(box, wall, at.url, client, fault_wall.TEXT)


@pytest.fixture
def walled(standing: Walled) -> Walled:
    """Nothing was asked yet."""
    standing.wall.reset()
    return standing


@pytest.mark.parametrize("fault", BEFORE)
def test_before_the_first_word_every_fault_is_somebody_elses_answer(walled: Walled, fault: str) -> None:
    """Streamed and whole: the second provider's text, whole; the sick one is asked little, and is let go."""
    assert walled.streamed(f"error-{fault}") == (walled.text, "second")
    assert walled.ask(f"error-{fault}") == (walled.text, "second")
    assert 1 <= len(walled.asked(fault)) <= 3
    assert len(walled.asked("second")) == 2
    # A connection on which nothing comes is closed: the provider sees it.
    walled.until(lambda: fault not in ("silent", "keepalives") or walled.asked(fault)[0].left_ms is not None)


@pytest.mark.parametrize("fault", BROKEN)
def test_a_part_is_never_given_as_the_whole(walled: Walled, fault: str) -> None:
    """A stream that breaks after its first word ends in an error that the client raises; held, it is somebody else's.

    The second provider begins anew: nobody sends it words to continue.
    """
    with pytest.raises(openai.APIError):
        list(walled.stream(f"error-{fault}"))
    assert (len(walled.asked(fault)), len(walled.asked("second"))) == (1, 0)
    assert walled.streamed(f"hold-{fault}") == (walled.text, "second")
    assert len(walled.asked("second")) == 1
    assert not any(seen.prefilled for seen in walled.wall.log)


@pytest.mark.parametrize("fault", READABLE)
def test_what_can_be_read_is_the_providers_answer(walled: Walled, fault: str) -> None:
    """One event that is no JSON, a missing `[DONE]`, other line ends: every word comes, nobody else is asked."""
    assert walled.streamed(f"error-{fault}") == (walled.text, fault)
    assert walled.asked("second") == []


def test_a_content_filter_is_the_callers_to_see(walled: Walled) -> None:
    """No other provider is asked what one refused."""
    with pytest.raises(openai.BadRequestError):
        walled.ask("hold-content-filter")
    assert (len(walled.asked("content-filter")), len(walled.asked("second"))) == (1, 0)


def test_an_outage_and_its_end(walled: Walled) -> None:
    """Every request is served; few of them reach the provider while it is down; it serves again after it."""
    began = time.monotonic()
    while time.monotonic() < began + 4:
        assert walled.streamed("error-flap")[0] == walled.text
        time.sleep(0.2)
    assert 1 <= len([seen for seen in walled.asked("flap") if seen.at_ms < 4_000]) <= 3
    walled.until(lambda: walled.ask("error-flap")[1] == "flap")


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
    assert not [seen for seen in walled.wall.log if seen.model == f"model-{name}"]


def test_a_retry_storm(walled: Walled) -> None:
    """Fifty clients at once, twice, with the retries of the client library: all are served, the dead one is spared."""

    async def storm() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{walled.box.url}/v1", api_key=walled.box.token, max_retries=2) as many:
            asking = [many.chat.completions.create(model="error-503", messages=MESSAGES) for _ in range(50)]
            return await asyncio.gather(*asking)

    first = asyncio.run(storm())
    asked_first = len(walled.asked("503"))
    second = asyncio.run(storm())
    assert {one.model_dump()["lifeboat"]["served_by"] for one in (*first, *second)} == {"second"}
    # Each may have been under way before the first failure was known; a fifth of them may try once more.
    assert asked_first <= 60
    assert len(walled.asked("503")) - asked_first <= 3


def test_who_leaves_ends_the_work(walled: Walled) -> None:
    """A client that goes in mid-stream is a client that the provider sees go."""
    chunks = walled.client.chat.completions.create(model="error-drip", messages=MESSAGES, stream=True)
    next(iter(chunks))
    chunks.close()
    walled.until(lambda: walled.asked("drip")[0].left_ms is not None)
    assert walled.asked("second") == []


def test_no_url_of_a_request_is_fetched(walled: Walled) -> None:
    """Neither one in the body, nor in a header; and a redirect is not followed."""
    trap = f"{walled.wall_url}/trap/v1/models"
    content = [{"type": "text", "text": trap}]
    body = {"model": "error-redirect", "messages": [{"role": "user", "content": content}], "metadata": {"url": trap}}
    body |= {"base_url": trap, "api_base": trap, "custom_host": trap}
    headers = {"Authorization": f"Bearer {walled.box.token}", "X-Portkey-Custom-Host": trap, "X-Forwarded-Host": "x"}
    answer = httpx2.post(f"{walled.box.url}/v1/chat/completions", json=body, headers=headers, timeout=30)
    assert answer.json()["lifeboat"]["served_by"] == "second"
    assert walled.asked("redirect")
    assert not [seen for seen in walled.wall.log if "trap" in seen.path or "elsewhere" in seen.path]


def test_killed_in_mid_stream_the_client_is_told(walled: Walled) -> None:
    """Kill -9 of the serving process: the client raises, and has no whole answer; the box serves again by itself."""
    chunks = walled.stream("error-drip")
    heard = [next(chunks).choices[0].delta.content]
    os.kill(_serving(walled.box.process.pid), signal.SIGKILL)
    with pytest.raises((openai.APIError, httpx2.TransportError)):
        heard.extend(chunk.choices[0].delta.content for chunk in chunks)

    def serves() -> bool:
        with suppress(openai.APIError):
            return walled.ask("error-ok") == (walled.text, "ok")
        return False

    walled.until(serves)


def _serving(supervisor: int) -> int:
    """Returns the child of the supervisor that serves."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    assert children
    return int(children[0])
