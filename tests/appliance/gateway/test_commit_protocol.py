"""A state machine writes what a provider streams, with its faults; all three policies are held against what was said.

Invariants: no character is lost, doubled or out of order; `[DONE]` only after a whole answer; nothing is handed out of
a held stream that broke; a client's events hold nothing but data and comments.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from appliance.gateway.attempt import attempt
from appliance.gateway.call import CHAT, Answer, Call, ChunkStream, Served, Told
from appliance.gateway.commit import BAD_CHUNKS_MAX
from appliance.gateway.held import Room
from appliance.gateway.outcome import Failed
from appliance.gateway.sse import DONE, EventReader
from appliance.gateway.stitch import OVERLAP_CHARS_MAX, OVERLAP_CHARS_MIN, Stitched, continuing, may_continue
from appliance.gateway.upstream import Client, Target
from appliance.routes import present
from bundler.format.service import RouteSpec

TARGET = Target("m", "http://m/v1", "m", "", None, connect_s=9, first_token_s=0.01, whole_s=9, stall_s=0.01)
TEXTS = st.text('aé🚣 \n"', min_size=1, max_size=12)
ENDS = ("closed", "reset", "silent")
WORDS: dict[str, Any] = {
    "wire": CHAT,
    "question": "",
    "stream": True,
    "model": "m",
    "needs": frozenset(),
    "ignorable": (),
}
BODY = {"messages": [{"role": "user", "content": "x"}], "stream": True}


class Response:
    """What `relay` needs of aiohttp's response, over pieces that are there and an end."""

    content_type = "text/event-stream"

    def __init__(self, pieces: list[bytes], end: str) -> None:
        self._pieces, self._end, self.closed = list(pieces), end, False
        self.content = self

    async def readany(self) -> bytes:
        if self._pieces:
            return self._pieces.pop(0)
        if self._end == "reset":
            raise aiohttp.ClientPayloadError
        if self._end == "silent":
            await asyncio.sleep(3600)
        return b""

    def close(self) -> None:
        self.closed = True


class Provider(Client):
    """A client that is given its response."""

    def __init__(self, response: Response) -> None:
        super().__init__(TARGET)
        self._response = response

    async def post(self, *_: Any) -> Any:
        return self._response


def event(content: str = "", finish: str | None = None, **delta: Any) -> bytes:
    fields = {**delta, **({"content": content} if content else {})}
    value = {"id": "p", "model": "m", "choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}
    return b"data: " + json.dumps(value).encode() + b"\n\n"


@dataclass
class Script:
    """What a provider sends, and what a reader may make of it.

    Attributes:
        text: What was said before the first fault.
        outcome: "" while the stream may go on, then "whole" or "broken".
    """

    data: bytes = b""
    text: str = ""
    bad: int = 0
    finished: bool = False
    begun: bool = False
    outcome: str = ""

    def say(self, content: str) -> None:
        self.data += event(content)
        self.text += content
        self.begun = True

    def finish(self, reason: str) -> None:
        self.data += event(finish=reason)
        self.finished, self.begun = True, self.begun or reason != "stop"

    def damage(self) -> None:
        self.data += b'data: {"choices": [\n\n'
        self.bad += 1
        self.outcome = "broken" if self.bad == BAD_CHUNKS_MAX else ""

    def done(self) -> None:
        self.data += b"data: [DONE]\n\n"
        self.outcome = "whole" if self.begun else "broken"

    def fail(self) -> None:
        self.data += b'data: {"error": {"message": "sk-1"}}\n\n'
        self.outcome = "broken"

    def over(self) -> None:
        self.outcome = self.outcome or ("whole" if self.finished and self.begun else "broken")


@dataclass
class Seen:
    """What a client saw: the text, whether the stream said it was whole, and its last event."""

    text: str = ""
    done: bool = False
    last: dict[str, Any] = field(default_factory=dict)


def seen(data: bytes) -> Seen:
    """Reads a stream as a client does; anything but data and comments is a fault."""
    assert {line[:5] for line in data.split(b"\n") if line and not line.startswith(b":")} <= {b"data:"}
    found = Seen()
    for raw in EventReader().feed(data):
        assert not found.done, "something came after the end"
        if raw == DONE:
            found.done = True
            continue
        found.last = json.loads(raw)
        found.text += "".join(choice["delta"].get("content", "") for choice in found.last.get("choices", ()))
    return found


def overlap(tail: str, head: str) -> int:
    """Returns the longest repetition, by trying all."""
    sizes = [n for n in range(OVERLAP_CHARS_MIN, OVERLAP_CHARS_MAX + 1) if n <= len(tail) and tail[-n:] == head[:n]]
    return max(sizes, default=0)


def request(policy: str) -> Call:
    return Call(**WORDS, body=BODY, deadline_s=time.monotonic() + 600, route=RouteSpec("m", ("m", "n"), policy))


async def opened(response: Response, call: Call) -> Answer:
    told = Told()
    _, chunks = await attempt(Provider(response), call, call.body, told, Room())
    return Answer("m", "upstream", "m", None, chunks, told=told)


async def presented(answer: Answer) -> Seen:
    served = Served(answer, "NORMAL", None, ())
    data = b"".join([each async for each in present.events(served, lambda _: "id")])
    assert answer.chunks is not None
    answer.chunks.close()
    return seen(data)


class Streams(RuleBasedStateMachine):
    """The rules are what a provider does next; the checks come when its stream is over."""

    def __init__(self) -> None:
        super().__init__()
        self.script = Script()

    def going_on(self) -> bool:
        return not self.script.outcome

    @precondition(going_on)
    @rule(content=TEXTS)
    def says(self, content: str) -> None:
        self.script.say(content)

    @precondition(going_on)
    @rule(
        data=st.sampled_from(
            [b": ping\n\n", event(role="assistant"), event(), b'data: {"choices": []}\n\n', b"id: 3\n"]
        )
    )
    def is_busy(self, data: bytes) -> None:
        self.script.data += data

    @precondition(going_on)
    @rule()
    def sends_rubbish(self) -> None:
        self.script.damage()

    @precondition(going_on)
    @rule(reason=st.sampled_from(["stop", "length"]))
    def finishes(self, reason: str) -> None:
        self.script.finish(reason)

    @precondition(going_on)
    @rule()
    def says_done(self) -> None:
        self.script.done()

    @precondition(going_on)
    @rule()
    def says_an_error(self) -> None:
        self.script.fail()

    @rule(
        sizes=st.lists(st.integers(1, 40), max_size=20),
        ending=st.sampled_from([b"\n", b"\r\n"]),
        end=st.sampled_from(ENDS),
        second=st.lists(TEXTS, max_size=3),
        again=st.integers(0, OVERLAP_CHARS_MAX + 9),
        farewell=st.sampled_from(["finish", "done", "cut"]),
    )
    def is_over(self, sizes: list[int], ending: bytes, end: str, second: list[str], again: int, farewell: str) -> None:
        """The connection ends; every policy is tried on the same bytes."""
        script = replace(self.script)
        script.over()
        data, pieces = script.data.replace(b"\n", ending), []
        for size in sizes:
            pieces.append(data[:size])
            data = data[size:]
        pieces = [piece for piece in (*pieces, data) if piece]
        asyncio.run(live_is_honest(script, Response(pieces, end)))
        asyncio.run(held_is_whole(script, Response(pieces, end)))
        asyncio.run(continued_is_seamless(script, Response(pieces, end), Second(second, again, farewell)))


async def live_is_honest(script: Script, response: Response) -> None:
    """`error`: what was sent is a beginning of what was said, and only a whole answer is called one."""
    try:
        found = await presented(await opened(response, request("error")))
    except Failed:
        assert script.outcome == "broken"
        assert response.closed
        return
    assert found.done == (script.outcome == "whole")
    assert script.text.startswith(found.text)
    if found.done:
        assert found.text == script.text
        assert found.last["lifeboat"].get("damaged_chunks", 0) == script.bad
    else:
        assert (found.last["error"]["code"], found.last["error"]["resume_id"]) == ("upstream_interrupted", "id")
    assert response.closed


async def held_is_whole(script: Script, response: Response) -> None:
    """`hold`: all of it, undamaged, or nothing."""
    try:
        found = await presented(await opened(response, request("hold")))
    except Failed:
        blank = not script.text.strip()
        assert script.outcome == "broken" or script.bad or blank
        assert response.closed
        return
    assert (script.outcome, script.bad) == ("whole", 0)
    assert (found.text, found.done) == (script.text, True)


@dataclass
class Second:
    """The rung that goes on: how it begins depends on what was sent, `again` characters of which it says again."""

    texts: list[str]
    again: int
    farewell: str
    sent: str = ""
    asked: int = 0

    def stream(self, sent: str) -> Response:
        self.sent, self.asked = sent, self.asked + 1
        head = [sent[-self.again :]] if self.again and sent[-self.again :] else []
        self.texts = [*head, *self.texts]
        data = b"".join([event(role="assistant"), *map(event, self.texts)])
        ends = {"finish": [event(finish="stop")], "done": [b"data: [DONE]\n\n"], "cut": []}
        return Response([data, *ends[self.farewell]], "closed")


async def continued_is_seamless(script: Script, response: Response, second: Second) -> None:
    """`continue`: what was sent, then what the second says less what it says again; or an error."""
    call = request("continue")
    assert may_continue(call)

    async def go_on(sent: str, pieces: int, _: Failed) -> Served | None:
        asked = continuing(call, sent, pieces, call.deadline_s)
        assert asked.body["messages"] == [*BODY["messages"], {"role": "assistant", "content": sent}]  # type: ignore[misc]
        try:
            return Served(await opened(second.stream(sent), asked), "LOCAL", "words", ())
        except Failed:
            return None

    try:
        first = await opened(response, call)
    except Failed:
        assert script.outcome == "broken"
        return
    chunks: ChunkStream = Stitched(first, go_on, working_s=9, wants_usage=False)
    found = await presented(replace(first, chunks=chunks))
    said = "".join(second.texts)
    assert second.asked == (script.outcome == "broken" and bool(found.text.strip())) or found.last["error"]
    if script.outcome == "whole":
        assert (found.text, found.done) == (script.text, True)
    elif found.done:
        assert script.text.startswith(second.sent)
        assert found.text == second.sent + said[overlap(second.sent, said) :]
        assert found.last["lifeboat"]["mode"] == "LOCAL"
        assert [each["chars"] for each in found.last["lifeboat"]["segments"]] == [len(second.sent), len(said)]
    else:
        assert second.farewell == "cut" or not said or not second.asked
        assert found.last["error"]["code"] == "upstream_interrupted"
        assert found.text.startswith(second.sent)
        assert not second.asked or said[overlap(second.sent, said) :].startswith(found.text[len(second.sent) :])


TestStreams = Streams.TestCase
TestStreams.settings = settings(max_examples=150, stateful_step_count=14, deadline=None)
