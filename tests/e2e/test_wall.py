"""A real box before the wall, in real time: what the caller gets, and what the provider saw.

Each fault is an upstream of its own, with a healthy second one behind it in three routes: one gives words as they come,
one holds them, one goes on with what broke. The limits are short, so that a test takes seconds; the scorecard runs the
same faults with real ones.
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
READABLE = ("malformed", "no-done", "no-finish", "crlf", "split")
LATER = ("drip-later", "drip-left", "drip-killed", "dead-later")
OTHERS = ("ok", "503", "content-filter", "flap", "drip", "redirect", *LATER)
# Who serves three requests, one of each policy, and how often the sick one is asked for all of them, at least and most.
SELF, SECOND = "itself", "second"
TOLD = {
    "429-once": ((SELF, SELF, SELF), 4, 4),
    "429-date": ((SELF, SELF, SELF), 4, 4),
    "429-ms": ((SELF, SELF, SELF), 4, 4),
    "429": ((SECOND, SECOND, SECOND), 1, 1),
    "429-day": ((SECOND, SECOND, SECOND), 1, 1),
    "500-once": ((SELF, SELF, SELF), 4, 4),
    "529": ((SECOND, SECOND, SECOND), 2, 3),
    "reset-once": ((SELF, SELF, SELF), 4, 4),
    "reset": ((SECOND, SECOND, SECOND), 2, 3),
    "401": ((SECOND, SECOND, SECOND), 1, 1),
    "403": ((SECOND, SECOND, SECOND), 1, 1),
    "404": ((SECOND, SECOND, SECOND), 1, 1),
    "410": ((SECOND, SECOND, SECOND), 1, 1),
    "revoked": ((SELF, SECOND, SECOND), 2, 2),
    "context-length": ((SECOND, SECOND, SECOND), 3, 3),
    "empty": ((SECOND, SECOND, SECOND), 3, 3),
    "garbage": ((SECOND, SECOND, SECOND), 2, 3),
    "error-after-role": ((SECOND, SECOND, SECOND), 2, 3),
    "wrong-model": ((SELF, SELF, SELF), 3, 3),
}
POLICIES = ("error", "hold", "continue")
OWN_MODEL = """
[[route]]
name = "own-wrong-model"
rungs = ["wrong-model", "second"]
[route.output]
own_model = true
"""
LIMITS = {"connect_ms": 500, "first_ms": 1_500, "stall_ms": 1_500}


def profile(boxes: Any, at: Any) -> str:
    """Returns the profile of all faults."""
    base = boxes.PROFILE.format(wall=at.url, second=f"{at.url}/second/v1", **LIMITS)
    below = {"expired": at.expired, "untrusted": at.untrusted, "nowhere": at.no_such_name, "hole": at.black_hole}
    faults = (*BEFORE, *BROKEN, *READABLE, *OTHERS, *TOLD)
    places = {name: f"{at.url}/{name}" for name in faults} | below
    parts = [base, OWN_MODEL, *(boxes.upstream(name, url, **LIMITS) for name, url in places.items())]
    parts.append(boxes.upstream("goes-on", f"{at.url}/ok-continues", more="continues = true"))
    parts += [boxes.routes(name, name, "second", policies=POLICIES[:2]) for name in faults]
    parts += [boxes.routes(name, name, "second", "goes-on", policies=POLICIES[2:]) for name in faults]
    return "".join(parts)


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
        return said(chunks), str(chunks[-1]["lifeboat"]["served_by"])

    def asked(self, name: str) -> list[Any]:
        """What a provider was asked, probes left out."""
        return [seen for seen in self.wall.log if seen.path.startswith(f"/{name}/") and not seen.probe]

    def until(self, look: Callable[[], Any], limit_s: float = 60.0) -> None:
        """Waits until a look is true."""
        end = time.monotonic() + limit_s
        while not look():
            assert time.monotonic() < end, "it did not come"
            time.sleep(0.1)


def said(chunks: list[dict[str, Any]]) -> str:
    """Returns the text of a stream."""
    return "".join(choice["delta"]["content"] or "" for chunk in chunks for choice in chunk["choices"]).strip()


@pytest.fixture(scope="module")
def standing(
    fault_wall: Any, load_script: Callable[[str], Any], wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Walled]:
    wall, boxes = fault_wall.FaultWall(fault_wall.Timing(down_s=4.0, word_s=0.003)), load_script("failover_box")
    wall.act("primary", "ok")
    wall.act("second", "ok")
    for name in LATER:
        wall.act(name, "503" if name == "dead-later" else "drip")
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
    assert walled.ask(f"error-{fault}") == (walled.text, "second")
    for policy in POLICIES:
        assert walled.streamed(f"{policy}-{fault}") == (walled.text, "second")
    assert 1 <= len(walled.asked(fault)) <= 3
    assert len(walled.asked("second")) == 4
    # A connection on which nothing comes is closed: the provider sees it.
    walled.until(lambda: fault not in ("silent", "keepalives") or walled.asked(fault)[0].left_ms is not None)


@pytest.mark.parametrize("fault", TOLD)
def test_what_a_provider_says_is_taken_at_its_word(walled: Walled, fault: str) -> None:
    """Under each policy the caller gets a whole answer; who is throttled, dead or gone is asked once for all."""
    serving, least, most = TOLD[fault]
    for policy, who in zip(POLICIES, serving, strict=True):
        assert walled.streamed(f"{policy}-{fault}") == (walled.text, fault if who == SELF else who), policy
    assert least <= len(walled.asked(fault)) <= most
    assert len(walled.asked("second")) == serving.count(SECOND)


def test_another_model_than_was_asked_for(walled: Walled) -> None:
    """It is an answer like any other, but where a route wants the model that it names."""
    assert walled.ask("own-wrong-model") == (walled.text, "second")
    assert walled.streamed("own-wrong-model") == (walled.text, "second")
    assert len(walled.asked("wrong-model")) == 2


@pytest.mark.parametrize("fault", BROKEN)
def test_a_part_is_never_given_as_the_whole(walled: Walled, fault: str) -> None:
    """A stream that breaks after its first word ends in an error that the client raises; held, it is somebody else's.

    Nobody is sent words to continue who does not say that he goes on natively; who does is sent just what came.
    """
    with pytest.raises(openai.APIError):
        list(walled.stream(f"error-{fault}"))
    assert (len(walled.asked(fault)), len(walled.asked("second"))) == (1, 0)
    assert walled.streamed(f"hold-{fault}") == (walled.text, "second")
    assert len(walled.asked("second")) == 1
    assert not any(seen.prefilled for seen in walled.wall.log)
    chunks = [chunk.model_dump() for chunk in walled.stream(f"continue-{fault}")]
    assert said(chunks) == walled.text
    goes_on, told = walled.asked("ok-continues"), chunks[-1]["lifeboat"]
    if goes_on:
        assert walled.text.startswith(goes_on[0].begun.strip())
        assert [segment["rung"] for segment in told["segments"]] == [fault, "goes-on"]
    assert len(goes_on) == int(told["served_by"] != "second")
    assert not any(seen.prefilled for seen in walled.asked("second"))


def test_a_drip_holds_nobody(walled: Walled) -> None:
    """A character a second: who waits for the whole is served by others, who reads along gets every character."""
    assert walled.streamed("hold-drip") == (walled.text, "second")
    assert walled.ask("error-drip") == (walled.text, "second")
    chunks = walled.stream("error-drip")
    assert [next(chunks).choices[0].delta.content for _ in range(3)]
    assert len(walled.asked("drip")) <= 3


def test_where_a_drip_is_gone_on_with(walled: Walled) -> None:
    """The characters that came stay, and another provider gives the rest."""
    chunks = [chunk.model_dump() for chunk in walled.stream("continue-drip-later")]
    assert said(chunks) == walled.text
    assert chunks[-1]["lifeboat"]["segments"][1]["rung"] == "goes-on"
    assert 3 <= len(walled.asked("ok-continues")[0].begun) <= 12


@pytest.mark.parametrize("fault", READABLE)
def test_what_can_be_read_is_the_providers_answer(walled: Walled, fault: str) -> None:
    """An event that is no JSON, no `[DONE]`, no reason, other line ends, torn characters: every word comes."""
    for policy in POLICIES:
        text, who = walled.streamed(f"{policy}-{fault}")
        lost = policy == "hold" and fault == "malformed"  # a chunk that cannot be read may have held a word
        assert who == ("second" if lost else fault)
        assert text == walled.text if fault != "split" else text.endswith(walled.text) and text[0] == "Ü"
    assert len(walled.asked("second")) == int(fault == "malformed")


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
    chunks = walled.client.chat.completions.create(model="error-drip-left", messages=MESSAGES, stream=True)
    next(iter(chunks))
    chunks.close()
    walled.until(lambda: walled.asked("drip-left")[0].left_ms is not None)
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
    """Kill -9 of the serving process: the client raises, and has no whole answer; the box serves again by itself.

    What it knew of a dead provider it knows again: no request of a user goes there.
    """
    for _ in range(3):
        assert walled.ask("error-dead-later")[1] == "second"
    walled.until(lambda: "dead-later" in _failing(walled))
    time.sleep(2)  # what is learned is written within a second
    chunks = walled.stream("error-drip-killed")
    heard = [next(chunks).choices[0].delta.content]
    os.kill(_serving(walled.box.process.pid), signal.SIGKILL)
    with pytest.raises((openai.APIError, httpx2.TransportError)):
        heard.extend(chunk.choices[0].delta.content for chunk in chunks)

    def serves() -> bool:
        with suppress(openai.APIError):
            return walled.ask("error-ok") == (walled.text, "ok")
        return False

    walled.until(serves)
    before = len(walled.asked("dead-later"))
    for _ in range(5):
        assert walled.ask("error-dead-later") == (walled.text, "second")
    assert len(walled.asked("dead-later")) == before
    assert "dead-later" in _failing(walled)


def _failing(walled: Walled) -> set[str]:
    """Returns the rungs that `/health/ready` says to be failing."""
    listed: Any = walled.box.ready()["rungs"]
    return {rung["rung"] for rung in listed if rung["state"] == "failing"}


def _serving(supervisor: int) -> int:
    """Returns the child of the supervisor that serves."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    assert children
    return int(children[0])
