"""The faults of the wall by name: what a provider does to one attempt, as steps. Pure.

A fault that is "once" looks at the number of the attempt, one that flaps at the time since the wall was reset; nothing
is random.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import formatdate

from wall_answers import Attempt, End, Step, dripped, ok, part, streamed, tail
from wall_wire import TEXT, WORDS, Wire, error, head, piece, stream_head, whole

Fault = Callable[[Attempt], Iterator[Step]]
CUT_AFTER, STALL_AFTER, BAD_CHUNK_AT = 40, 20, 10
PORTAL = b"<!DOCTYPE html><html><title>Wi-Fi</title><body>Please log in to use this network.</body></html>"


def ok_no_prefill(asked: Attempt) -> Iterator[Step]:
    """Healthy, but a conversation that ends with the assistant's own words is refused."""
    if asked.prefilled:
        yield error(400, "invalid_prefill", "the conversation must end with a user message")
    else:
        yield from ok(asked)


def ok_continues(asked: Attempt) -> Iterator[Step]:
    """Healthy, and goes on natively with an answer that has begun."""
    text = "".join(WORDS)
    rest = text.removeprefix(asked.begun) if text.startswith(asked.begun) else text
    words = tuple(re.findall(r"\S*\s+", rest))
    if asked.stream:
        yield from streamed(asked, [*asked.wire.words(words), asked.wire.done()])
    else:
        yield whole(200, asked.wire.body("".join(words)))


def status(code: int, name: str, headers: dict[str, str] | None = None, *, first: int | None = None) -> Fault:
    """Returns a fault that answers a status: always, or the first so many times."""

    def fault(asked: Attempt) -> Iterator[Step]:
        if first is None or asked.number <= first:
            yield error(code, name, f"the wall answers {code}; the key was sk-wall-123", headers)
        else:
            yield from ok(asked)

    told = ", ".join(f"{field}: {value}" for field, value in (headers or {}).items())
    fault.__doc__ = f"Status {code}, {'always' if first is None else 'once'}" + (f", {told}." if told else ".")
    return fault


def throttled_once(asked: Attempt) -> Iterator[Step]:
    """Status 429 with Retry-After in seconds, once."""
    yield from status(429, "rate_limit", {"Retry-After": f"{asked.timing.retry_after_s:.0f}"}, first=1)(asked)


def throttled_date(asked: Attempt) -> Iterator[Step]:
    """Retry-After as a date (RFC 9110, 10.2.3), which has whole seconds: rounded up."""
    date = formatdate(int(asked.now_s + asked.timing.retry_after_s) + 1, usegmt=True)
    yield from status(429, "rate_limit", {"Retry-After": date}, first=1)(asked)


def reset_once(asked: Attempt) -> Iterator[Step]:
    """The first connection is reset before an answer."""
    if asked.number == 1:
        yield End.RESET
    else:
        yield from ok(asked)


def reset(_: Attempt) -> Iterator[Step]:
    """Every connection is reset before an answer."""
    yield End.RESET


def silent(asked: Attempt) -> Iterator[Step]:
    """The request is read and nothing is said."""
    yield asked.timing.silence_s
    yield End.CLOSE


def slow_first_token(asked: Attempt) -> Iterator[Step]:
    """The headers of a stream come at once, its first token late; a whole answer is late altogether."""
    answer = ok(asked)
    if asked.stream:
        yield stream_head()
        yield asked.timing.first_token_s
        yield from (step for step in answer if step != stream_head())
    else:
        yield asked.timing.first_token_s
        yield from answer


def keepalives(asked: Attempt) -> Iterator[Step]:
    """Comments keep the connection busy; nothing is ever said. Some providers send blanks before a whole answer."""
    yield stream_head() if asked.stream else head(200, {"Content-Type": "application/json", "Connection": "close"})
    for _ in range(int(asked.timing.silence_s * 2)):
        yield piece(b": still here\n\n") if asked.stream else b" "
        yield 0.5
    yield End.CLOSE


def drip(asked: Attempt) -> Iterator[Step]:
    """One character a second, for ever long."""
    if not asked.stream:
        yield from dripped(whole(200, asked.wire.body(TEXT)))
        return
    yield stream_head()
    for letter in TEXT:
        yield piece(asked.wire.event(asked.wire.word(letter)))
        yield 1.0
    yield from tail(asked)


def cut(asked: Attempt) -> Iterator[Step]:
    """The connection closes in mid-answer, without a word."""
    yield from part(asked, CUT_AFTER)
    yield End.CLOSE


def cut_at_the_end(asked: Attempt) -> Iterator[Step]:
    """All words come, and the stream ends as HTTP ends, without a finish reason and without `[DONE]`."""
    if asked.stream:
        yield from streamed(asked, list(asked.wire.words(WORDS, None)))
    else:
        yield from part(asked, CUT_AFTER)
        yield End.CLOSE


def stall(asked: Attempt) -> Iterator[Step]:
    """The answer stops in the middle, the connection stays."""
    yield from part(asked, STALL_AFTER)
    yield asked.timing.stall_s
    yield End.CLOSE


def malformed(asked: Attempt) -> Iterator[Step]:
    """One event is no JSON; the rest is as it should be."""
    if not asked.stream:
        yield whole(200, asked.wire.body(TEXT)[:-20])
        return
    events = [*asked.wire.words(WORDS), asked.wire.done()]
    yield from streamed(asked, [*events[:BAD_CHUNK_AT], b'{"id": "wall-1", "cho', *events[BAD_CHUNK_AT:]])


def garbage(asked: Attempt) -> Iterator[Step]:
    """Nothing that comes is JSON."""
    yield from streamed(asked, [b"{"] * 10) if asked.stream else [whole(200, b"{" * 10)]


def split(asked: Attempt) -> Iterator[Step]:
    """Every read ends somewhere inside an event, a line end or a character."""
    wire = asked.wire
    words = ("Ünïcödé ", "日本語 ", *WORDS)
    if asked.stream:
        events = b"".join(wire.event(data) for data in (*_raw(wire, words), wire.done()))
        data = stream_head() + b"".join(piece(events[at : at + 7]) for at in range(0, len(events), 7)) + piece(b"")
    else:
        data = whole(200, json.dumps(json.loads(wire.body("".join(words))), ensure_ascii=False).encode())
    for at in range(0, len(data), 101):
        if at:  # none after the last: what a client sends during a pause is dropped, and it may ask again at once
            yield 0.001
        yield data[at : at + 101]


def crlf(asked: Attempt) -> Iterator[Step]:
    """Lines of the events end in CR and LF."""
    yield from streamed(asked, [*asked.wire.words(WORDS), asked.wire.done()], b"\r\n") if asked.stream else ok(asked)


def no_done(asked: Attempt) -> Iterator[Step]:
    """The answer is whole and says why it ended; `[DONE]` is not sent."""
    yield from streamed(asked, list(asked.wire.words(WORDS))) if asked.stream else ok(asked)


def no_finish(asked: Attempt) -> Iterator[Step]:
    """`[DONE]` is sent; why the answer ended is not."""
    if asked.stream:
        yield from streamed(asked, [*asked.wire.words(WORDS, None), asked.wire.done()])
    else:
        yield from ok(asked)


def error_first(asked: Attempt) -> Iterator[Step]:
    """A 200 whose first event is an error."""
    yield from _erring(asked, 0)


def error_after_role(asked: Attempt) -> Iterator[Step]:
    """A 200 that says who speaks, and then an error."""
    yield from _erring(asked, len(list(asked.wire.begin())))


def error_after_content(asked: Attempt) -> Iterator[Step]:
    """An error inside the stream, after content."""
    yield from _erring(asked, STALL_AFTER)


def portal(_: Attempt) -> Iterator[Step]:
    """A captive portal answers in place of the provider: 200 and a page."""
    yield whole(200, PORTAL, kind="text/html; charset=utf-8")


def bad_gzip(asked: Attempt) -> Iterator[Step]:
    """The body says that it is gzip, and breaks in the middle."""
    data = gzip.compress(asked.wire.body(TEXT), mtime=0)
    half = len(data) // 2
    broken = data[:half] + bytes(byte ^ 0x5A for byte in data[half:])
    kind = "text/event-stream" if asked.stream else "application/json"
    yield whole(200, broken, {"Content-Encoding": "gzip"}, kind)


def empty(asked: Attempt) -> Iterator[Step]:
    """A completion without a word."""
    if asked.stream:
        yield from streamed(asked, [*asked.wire.words(()), asked.wire.done()])
    else:
        yield whole(200, asked.wire.body(""))


def wrong_model(asked: Attempt) -> Iterator[Step]:
    """Another model answers than was asked for."""
    yield from ok(replace(asked, wire=replace(asked.wire, model="wall-other-model")))


def revoked_mid_run(asked: Attempt) -> Iterator[Step]:
    """The first attempt is served; then the key is no longer known."""
    if asked.number == 1:
        yield from ok(asked)
    else:
        yield error(401, "invalid_api_key", "the key sk-wall-123 is not known")


def flap(asked: Attempt) -> Iterator[Step]:
    """Down for a while after the wall was reset, then healthy."""
    if asked.since_s < asked.timing.down_s:
        yield error(503, "overloaded", "the wall is down for a while")
    else:
        yield from ok(asked)


def _raw(wire: Wire, words: tuple[str, ...]) -> Iterator[bytes]:
    """Yields an answer's events with characters that are longer than a byte as they are."""
    for data in wire.words(words):
        yield json.dumps(json.loads(data), ensure_ascii=False).encode()


def _erring(asked: Attempt, events: int) -> Iterator[Step]:
    if not asked.stream:
        yield whole(200, asked.wire.in_band())
        return
    before = list(asked.wire.words(WORDS, None))[:events]
    yield from streamed(asked, [*before, asked.wire.in_band()])


FAULTS: dict[str, Fault] = {
    "ok": ok,
    "ok-no-prefill": ok_no_prefill,
    "ok-continues": ok_continues,
    "429-once": throttled_once,
    "429-date": throttled_date,
    "429-day": status(429, "rate_limit", {"Retry-After": "86400"}),
    "429-ms": status(429, "rate_limit", {"Retry-After-Ms": "400"}, first=1),
    "429": status(429, "rate_limit"),
    "500-once": status(500, "server_error", first=1),
    "503": status(503, "overloaded"),
    "529": status(529, "overloaded_error"),
    "reset-once": reset_once,
    "reset": reset,
    "silent": silent,
    "slow-first-token": slow_first_token,
    "keepalives": keepalives,
    "drip": drip,
    "cut": cut,
    "cut-at-the-end": cut_at_the_end,
    "stall": stall,
    "malformed": malformed,
    "garbage": garbage,
    "split": split,
    "crlf": crlf,
    "no-done": no_done,
    "no-finish": no_finish,
    "error-first": error_first,
    "error-after-role": error_after_role,
    "error-after-content": error_after_content,
    "portal": portal,
    "bad-gzip": bad_gzip,
    "empty": empty,
    "wrong-model": wrong_model,
    "context-length": status(400, "context_length_exceeded"),
    "content-filter": status(400, "content_policy_violation"),
    "401": status(401, "invalid_api_key"),
    "revoked": revoked_mid_run,
    "403": status(403, "unsupported_country"),
    "404": status(404, "model_not_found"),
    "410": status(410, "model_retired"),
    "redirect": status(302, "moved", {"Location": "/elsewhere"}),
    "flap": flap,
    "flap-unseen": flap,
}
# What the unbilled look at the list of models meets too; elsewhere the list is there while answers fail.
ALSO_ON_LISTS = frozenset(
    {"reset-once", "reset", "silent", "503", "529", "portal", "401", "403", "flap", "bad-gzip", "redirect"}
)
