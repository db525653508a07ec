"""Model tokens a day before a served box: what is counted, what the headers say, and who waits until when."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest

from appliance.edge.grant import Grant
from appliance.gateway.call import WORKING, Call, Chunk, Served
from appliance.gateway.outcome import Failed, Kind
from appliance.routes.metered import Metered, metered
from bundler.format.service import RouteSpec

if TYPE_CHECKING:
    from tests.appliance.routes.conftest import FakeBox, World, Worlds

CHAT = {"messages": [{"role": "user", "content": "hello"}]}


def limited(world: World, **limits: Any) -> httpx.Client:
    text, _ = world.tokens.create("limited", now_s=1_000, grant=Grant(**limits))
    return httpx.Client(base_url=world.url, headers={"Authorization": f"Bearer {text}"}, timeout=60, trust_env=False)


def remaining(reply: httpx.Response) -> int:
    return int(reply.headers["x-ratelimit-remaining-tokens"])


def test_headers_say_what_is_left(world: World) -> None:
    """Each answer of a limited token, a refusal too, in OpenAI's words; one without limits has none of them."""
    with limited(world, requests_a_minute=3, tokens_a_day=1_000) as client:
        first, second = client.post("/v1/chat/completions", json=CHAT), client.get("/v1/models")
        third, fourth = client.post("/v1/chat/completions", json={}), client.get("/v1/models")
    told = {name: value for name, value in first.headers.items() if name.startswith("x-ratelimit-")}
    assert told.pop("x-ratelimit-reset-tokens").endswith("s")
    assert told == {
        "x-ratelimit-limit-requests": "3",
        "x-ratelimit-remaining-requests": "2",
        "x-ratelimit-reset-requests": "20s",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "1000",
    }
    assert (second.status_code, second.headers["x-ratelimit-remaining-requests"]) == (200, "1")
    assert (third.status_code, remaining(third)) == (400, 995)
    assert (fourth.status_code, fourth.headers["x-ratelimit-remaining-requests"]) == (429, "0")
    assert 1 <= int(fourth.headers["Retry-After"]) <= 20
    assert not [name for name in world.chat().headers if name.startswith("x-ratelimit-")]


@pytest.mark.parametrize(
    ("path", "body", "used"),
    [
        ("/v1/chat/completions", CHAT, 5),
        ("/v1/messages", {**CHAT, "max_tokens": 9}, 5),
        ("/v1/completions", {"prompt": "hello"}, 5),
        ("/v1/chat/completions", {**CHAT, "model": "small"}, 5),
        ("/v1/ask", {"question": "when do you open?"}, 0),
        ("/v1/embeddings", {"input": ["one two three"]}, 3),
        ("/v1/faq", {"question": "open?"}, 0),
        ("/v1/chat/completions", {**CHAT, "model": "written"}, 0),
        ("/v1/chat/completions", {**CHAT, "model": "written", "stream": True}, 0),
        # The provider says nothing of a stream: the prompt's bytes by four, and each of the seven chunks.
        ("/v1/chat/completions", {**CHAT, "stream": True}, 8),
        ("/v1/messages", {**CHAT, "max_tokens": 9, "stream": True}, 8),
    ],
)
def test_what_an_answer_used_is_counted(worlds: Worlds, path: str, body: dict[str, Any], used: int) -> None:
    """On every endpoint where a model works; what the box knows without one costs nothing."""

    def change(box: FakeBox) -> None:
        box.service = replace(box.service, routes=(RouteSpec("written", ("message",)),))

    world = worlds.make(change=change)
    with limited(world, tokens_a_day=1_000) as client:
        assert client.post(path, json=body).status_code == 200
        assert 1_000 - remaining(client.post("/v1/chat/completions", json=CHAT)) == used


def test_a_stream_is_asked_what_it_uses_and_its_caller_sees_no_more_than_before(world: World) -> None:
    """The provider gets `include_usage`, beside what the caller set; without a limit nothing is changed."""
    with limited(world, tokens_a_day=1_000) as client:
        said = client.post("/v1/chat/completions", json={**CHAT, "stream": True}).text
    world.events()
    assert [body.get("stream_options") for body in world.cloud.asked] == [{"include_usage": True}, None]
    assert '"choices":[]' not in said


def test_a_day_that_is_used_up_ends_with_the_day(world: World) -> None:
    """429 with the time until midnight, as OpenAI's client raises it; what needs no model is served; others are too."""
    with limited(world, tokens_a_day=6) as client:
        replies = [client.post("/v1/chat/completions", json=CHAT) for _ in range(3)]
        assert client.post("/v1/faq", json={"question": "open?"}).status_code == 200
        assert client.get("/v1/models").status_code == 200
        key = client.headers["Authorization"].removeprefix("Bearer ")
        with (
            openai.OpenAI(base_url=f"{world.url}/v1", api_key=key, max_retries=0) as caller,
            pytest.raises(openai.RateLimitError, match="this token may use 6 tokens a day") as refused,
        ):
            caller.chat.completions.create(model="auto", messages=[{"role": "user", "content": "hello"}])
    assert [reply.status_code for reply in replies] == [200, 200, 429]
    assert 0 < int(replies[2].headers["Retry-After"]) <= 86_400
    assert (remaining(replies[2]), refused.value.code) == (0, "rate_limit_exceeded")
    assert len(world.cloud.asked) == 2
    assert world.chat().status_code == 200


class Script:
    """A stream of these chunks; the last may be how it breaks."""

    def __init__(self, *steps: Chunk | Failed) -> None:
        self.steps, self.closed = steps, False

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        for step in self.steps:
            if isinstance(step, Failed):
                raise step
            yield step

    def close(self) -> None:
        self.closed = True


WORD = Chunk(b"w", {"choices": [{"delta": {"content": "w"}}]})
USAGE = Chunk(b"u", {"choices": [], "usage": {"total_tokens": 70}})
LAST = Chunk(b"l", {"choices": [{"finish_reason": "stop"}], "usage": {"total_tokens": 71}})
ODD = Chunk(b"o", {"choices": [], "usage": {"total_tokens": "many"}})


@pytest.mark.parametrize(
    ("steps", "wanted", "given", "count"),
    [
        ((WORD, WORKING, WORD, USAGE), False, b"ww", 70),
        ((WORD, USAGE), True, b"wu", 70),
        ((WORD, LAST), False, b"wl", 71),
        ((WORD, WORD, WORD), False, b"www", 13),
        ((WORD, ODD), False, b"wo", 12),
        ((WORD, WORD, Failed(Kind.CUT, "")), False, b"ww", 12),
    ],
)
def test_a_stream_is_counted_once_however_it_ends(
    steps: tuple[Chunk | Failed, ...], wanted: bool, given: bytes, count: int
) -> None:
    """By what it says, or by its pieces and four bytes of the prompt a token."""
    counts: list[int] = []
    metered = Metered(Script(*steps), 40, wanted=wanted, spend=counts.append)

    async def read() -> bytes:
        said = b""
        try:
            async for chunk in metered:
                said += chunk.raw
        except Failed:
            pass  # the reader is told; what was used is counted all the same
        return said

    assert asyncio.run(read()) == given
    metered.close()
    assert counts == [count]


def test_a_stream_that_nobody_read_is_counted_by_its_prompt() -> None:
    """The client left; the provider did the work."""
    counts: list[int] = []
    script = Script(WORD)
    metered = Metered(script, 400, wanted=False, spend=counts.append)
    metered.close()
    metered.close()
    assert (counts, script.closed) == ([100], True)


def test_who_leaves_before_the_answer_is_counted_by_the_prompt() -> None:
    """Otherwise whoever hangs up asks for nothing."""
    counts: list[int] = []
    body = {"messages": [{"role": "user", "content": "x" * 400}]}
    call = Call("chat", body, "", stream=False, model="auto", needs=frozenset(), ignorable=(), deadline_s=0.0)

    async def run() -> None:
        async def complete(_: Call) -> Served:
            return await asyncio.Future()

        asking = asyncio.create_task(metered(complete, call, counts.append))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking

    asyncio.run(run())
    assert counts == [100]


def test_an_answer_that_is_fetched_counts_once(world: World) -> None:
    """The rest of the ladder works for it when it is asked for the first time."""
    world.cloud.behaviour = "cut"
    with limited(world, tokens_a_day=1_000) as client:
        *_, error, _ = client.post("/v1/chat/completions", json={**CHAT, "stream": True}).text.split("\n\n")
        key = json.loads(error.removeprefix("data: "))["error"]["resume_id"]
        before = remaining(client.post("/v1/chat/completions", json={}))
        said = [client.get(f"/v1/chat/completions/{key}").json()["lifeboat"]["rung"] for _ in range(2)]
        assert said == ["small", "small"]
        assert before - remaining(client.post("/v1/chat/completions", json={})) == 5
