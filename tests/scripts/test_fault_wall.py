"""The wall: each fault on a real socket, as a client that knows nothing of it sees it, and what the wall noted."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import httpx2
import openai
import pytest

QUICK = {
    "retry_after_s": 1.0,
    "first_token_s": 0.3,
    "stall_s": 0.3,
    "silence_s": 0.3,
    "down_s": 60.0,
    "word_s": 0.0,
}
HEALTHY = {
    "ok",
    "ok-no-prefill",
    "ok-continues",
    "crlf",
    "no-done",
    "no-finish",
    "slow-first-token",
    "wrong-model",
    "revoked",
}


@dataclass
class Standing:
    """A wall that stands, its addresses, and a client whose retries are off."""

    wall: Any
    at: Any
    client: Any  # openai.OpenAI, called with plain dicts
    text: str

    def ask(self, model: str, *, stream: bool, **more: Any) -> str:
        messages = [{"role": "user", "content": "why"}]
        if not stream:
            whole = self.client.chat.completions.create(model=model, messages=messages, **more)
            return str(whole.choices[0].message.content)
        chunks = self.client.chat.completions.create(model=model, messages=messages, stream=True, **more)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@pytest.fixture
def stands(fault_wall: Any) -> Iterator[Standing]:
    wall = fault_wall.FaultWall(fault_wall.Timing(**QUICK))
    with (
        fault_wall.standing(wall) as at,
        openai.OpenAI(base_url=f"{at.url}/v1", api_key="k", max_retries=0, timeout=30) as client,
    ):
        yield Standing(wall, at, client, "".join(fault_wall.WORDS).strip())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", sorted(HEALTHY))
def test_what_is_whole_comes_whole(stands: Standing, model: str, stream: bool) -> None:
    """Also where a stream lacks one of its two ends, or ends its lines in another way."""
    assert stands.ask(model, stream=stream).strip() == stands.text
    assert [(seen.fault, seen.number, seen.probe) for seen in stands.wall.log] == [(model, 1, False)]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "status"),
    [
        ("429-once", 429),
        ("429-date", 429),
        ("429-day", 429),
        ("429-ms", 429),
        ("429", 429),
        ("500-once", 500),
        ("503", 503),
        ("529", 529),
        ("context-length", 400),
        ("content-filter", 400),
        ("401", 401),
        ("403", 403),
        ("404", 404),
        ("410", 410),
        ("flap", 503),
        ("no such fault", 404),
    ],
)
def test_statuses(stands: Standing, model: str, status: int, stream: bool) -> None:
    """A status is the whole answer."""
    with pytest.raises(openai.APIStatusError) as caught:
        stands.ask(model, stream=stream)
    assert caught.value.status_code == status


def test_retry_after_in_all_its_forms(stands: Standing) -> None:
    """Seconds, a date, a day, milliseconds; and none."""
    waits = {}
    for model in ("429-once", "429-date", "429-day", "429-ms", "429"):
        with pytest.raises(openai.RateLimitError) as caught:
            stands.ask(model, stream=False)
        headers = caught.value.response.headers
        waits[model] = headers.get("retry-after") or headers.get("retry-after-ms")
    assert (waits["429-once"], waits["429-day"], waits["429-ms"], waits["429"]) == ("1", "86400", "400", None)
    assert str(waits["429-date"]).endswith("GMT")


@pytest.mark.parametrize("model", ["429-once", "500-once", "reset-once"])
def test_what_fails_once_then_serves(stands: Standing, model: str) -> None:
    """The second attempt is answered."""
    with pytest.raises(openai.APIError):
        stands.ask(model, stream=True)
    assert stands.ask(model, stream=True).strip() == stands.text
    assert [seen.number for seen in stands.wall.log] == [1, 2]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["reset", "silent", "keepalives", "garbage", "malformed", "bad-gzip", "cut", "stall"])
def test_what_breaks_is_seen_to_break(stands: Standing, model: str, stream: bool) -> None:
    """No client takes it for an answer."""
    with pytest.raises(
        (openai.APIError, httpx2.TransportError, httpx2.DecodingError, json.JSONDecodeError, ValueError)
    ):
        stands.ask(model, stream=stream)


@pytest.mark.parametrize(("model", "words"), [("error-first", 0), ("error-after-role", 0), ("error-after-content", 19)])
def test_errors_inside_a_stream(stands: Standing, model: str, words: int) -> None:
    """The status said 200."""
    heard = stands.client.chat.completions.create(model=model, messages=[{"role": "user", "content": "x"}], stream=True)
    said = [next(heard).choices[0].delta.content for _ in range(words + 1)] if words else []
    with pytest.raises(openai.APIError):
        list(heard)
    assert len([word for word in said if word]) == words


def test_a_cut_at_the_end_has_every_word_and_no_end(stands: Standing) -> None:
    """Nothing but the missing finish reason tells it from a whole answer."""
    with httpx2.stream("POST", f"{stands.at.url}/v1/chat/completions", json=_asked("cut-at-the-end")) as response:
        text = "".join(response.iter_text())
    assert '"finish_reason": "stop"' not in text
    assert "[DONE]" not in text
    assert stands.text.split()[-1] in text


def test_a_portal_answers_200_with_a_page(stands: Standing) -> None:
    """As a Wi-Fi does before somebody has logged in."""
    answer = httpx2.post(f"{stands.at.url}/v1/chat/completions", json=_asked("portal"))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")


def test_split_reads_hold_the_same_text(stands: Standing) -> None:
    """Characters of several bytes and events come in pieces."""
    for stream in (False, True):
        assert stands.ask("split", stream=stream).startswith("Ünïcödé 日本語 A box by the sea")


def test_empty_answers_are_empty(stands: Standing) -> None:
    """A status of 200 and not a word."""
    assert [stands.ask("empty", stream=stream) for stream in (False, True)] == ["", ""]


def test_a_revoked_key_is_known_until_then(stands: Standing) -> None:
    """The second attempt gets a 401."""
    assert stands.ask("revoked", stream=False)
    with pytest.raises(openai.AuthenticationError):
        stands.ask("revoked", stream=False)


def test_a_prefill_is_refused_where_it_is_not_known(stands: Standing) -> None:
    """And told in the log."""
    messages = [{"role": "user", "content": "why"}, {"role": "assistant", "content": "A box"}]
    with pytest.raises(openai.BadRequestError):
        stands.client.chat.completions.create(model="ok-no-prefill", messages=messages)
    assert [seen.prefilled for seen in stands.wall.log] == [True]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_has_begun_is_gone_on_with(stands: Standing, stream: bool) -> None:
    """Word by word, and nothing of it is said again."""
    words = stands.text.split()
    messages = [{"role": "user", "content": "why"}, {"role": "assistant", "content": " ".join(words[:40])}]
    answer = stands.client.chat.completions.create(model="ok-continues", messages=messages, stream=stream)
    parts = [answer] if not stream else list(answer)
    text = "".join((each.choices[0].delta if stream else each.choices[0].message).content or "" for each in parts)
    assert text.split() == words[40:]
    assert stands.wall.log[-1].begun == " ".join(words[:40])


def test_outages_begin_with_a_reset(fault_wall: Any) -> None:
    """`flap` is down for as long as it was told; nothing but its clock counts."""
    now = [100.0]
    wall = fault_wall.FaultWall(fault_wall.Timing(down_s=60.0, word_s=0.0), clock=lambda: now[0])
    with fault_wall.standing(wall) as at:
        found = [_status(at.url, "flap")]
        now[0] += 61
        found.append(_status(at.url, "flap"))
        wall.reset()
        found.append(_status(at.url, "flap"))
    assert found == [503, 200, 503]


def test_a_provider_falls_ill_and_recovers(stands: Standing) -> None:
    """The first part of the path names a provider; what it does can change, for its list of models too."""
    found = []
    for fault in ("ok", "503", "context-length", "ok"):
        stands.wall.act("primary", fault)
        found.append((_status(f"{stands.at.url}/primary", "any"), _listed(f"{stands.at.url}/primary")))
    assert found == [(200, 200), (503, 503), (400, 200), (200, 200)]


def test_probes_are_told_from_requests(stands: Standing) -> None:
    """A look at the list is unbilled, a tiny completion is billed, a question is neither."""
    _listed(stands.at.url)
    stands.ask("ok", stream=False, max_tokens=16)
    stands.ask("ok", stream=False, max_tokens=17)
    assert [(seen.probe, seen.billed) for seen in stands.wall.log] == [(True, False), (True, True), (False, True)]
    with urlopen(f"{stands.at.url}/log") as answer:
        assert [seen["key"] for seen in json.load(answer)] == ["", "Bearer k", "Bearer k"]


def test_a_client_that_leaves_is_noted(stands: Standing) -> None:
    """With the time, while the wall still had words to say."""
    with pytest.raises(openai.APITimeoutError):
        stands.client.with_options(timeout=0.1).completions.create(model="silent", prompt="x")
    end = time.monotonic() + 10
    while stands.wall.log[0].left_ms is None:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_anthropic_messages(stands: Standing) -> None:
    """The same text as events of its own kind, and whole."""
    body = {**_asked("ok"), "stream": False, "max_tokens": 100}
    whole = httpx2.post(f"{stands.at.url}/v1/messages", json=body).json()
    assert whole["content"][0]["text"].strip() == stands.text
    with httpx2.stream("POST", f"{stands.at.url}/v1/messages", json={**body, "stream": True}) as response:
        lines = list(response.iter_lines())
    named = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    data = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert named == [value["type"] for value in data]
    assert (named[0], named[-1], data[-2]["delta"]["stop_reason"]) == ("message_start", "message_stop", "end_turn")


def test_certificates_that_nobody_may_trust(stands: Standing) -> None:
    """One past its time, one that nobody known has signed."""
    for url in (stands.at.expired, stands.at.untrusted):
        parts = urlsplit(url)
        with (
            socket.create_connection((parts.hostname, parts.port)) as plain,
            pytest.raises(ssl.SSLCertVerificationError),
        ):
            ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")


def test_a_black_hole_takes_no_connection(stands: Standing) -> None:
    """Nothing refuses, nothing answers."""
    parts = urlsplit(stands.at.black_hole)
    with pytest.raises(TimeoutError):
        socket.create_connection((parts.hostname, parts.port), timeout=0.3)


def test_as_a_program_it_says_where_it_is_and_stops(repo_root: Path) -> None:
    """One line of JSON; it ends by itself; it lists its faults."""
    command = [sys.executable, str(repo_root / "scripts" / "fault_wall.py")]
    done = subprocess.run([*command, "--for-s", "0.1"], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout)["url"].startswith("http://127.0.0.1:")
    listed = subprocess.run([*command, "--list"], capture_output=True, text=True, check=True, timeout=60).stdout
    assert all(len(line.split(maxsplit=1)) == 2 for line in listed.splitlines())


def _asked(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "why"}], "stream": True}


def _status(url: str, model: str) -> int:
    return httpx2.post(f"{url}/v1/chat/completions", json={**_asked(model), "stream": False}).status_code


def _listed(url: str) -> int:
    return httpx2.get(f"{url}/v1/models").status_code
