"""Event streams at every way of cutting them, and the phases of a stream."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.gateway.commit import WAITING_CHUNKS_MAX, StreamReader
from appliance.gateway.outcome import Failed, Kind
from appliance.gateway.sse import EVENT_BYTES_MAX, EventReader, EventTooLong, event

STREAM = (
    ': hello\n\ndata: {"a": "ü€"}\n\nevent: x\nid: 3\ndata:two\n\ndata: three\ndata: lines\n\ndata: [DONE]\n\n'.encode()
)
EVENTS = ['{"a": "ü€"}'.encode(), b"two", b"three\nlines", b"[DONE]"]


def _read(pieces: list[bytes]) -> list[bytes]:
    reader = EventReader()
    return [found for piece in pieces for found in reader.feed(piece)]


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("step", [1, 2, 3, 5, 7, 1000])
def test_events_are_found_however_the_stream_is_cut(ending: bytes, step: int) -> None:
    """Inside a character, between CR and LF, in the middle of a field name."""
    stream = STREAM.replace(b"\n", ending) + (b"\n" if ending == b"\r" else b"")
    pieces = [stream[at : at + step] for at in range(0, len(stream), step)]
    assert _read(pieces) == EVENTS


@given(
    st.lists(st.binary(min_size=1, max_size=20).filter(lambda data: not set(data) & {10, 13}), max_size=8), st.data()
)
def test_what_is_written_is_read_back(payloads: list[bytes], data: st.DataObject) -> None:
    """Any payload without line breaks, cut at any place."""
    stream = b"".join(event(payload) for payload in payloads)
    at = data.draw(st.integers(0, len(stream)))
    assert _read([stream[:at], stream[at:]]) == [payload.removeprefix(b"") for payload in payloads]


def test_an_event_has_a_limit() -> None:
    """On one line without an end, and over many lines."""
    with pytest.raises(EventTooLong):
        EventReader().feed(b"data: " + b"x" * EVENT_BYTES_MAX)
    with pytest.raises(EventTooLong):
        _read([b"data: " + b"x" * 100_000 + b"\n"] * 20)
    with pytest.raises(EventTooLong):
        _read([b"data:\n" * 100_000] * 20)


def _chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return event(json.dumps({"choices": [choice], **more}).encode())


def _fed(*pieces: bytes) -> tuple[StreamReader, list[Any]]:
    reader, out = StreamReader(), []
    for piece in pieces:
        out += [chunk.value for chunk in reader.feed(piece)[0]]
    return reader, out


def test_nothing_is_handed_out_before_the_first_delta() -> None:
    """Role chunks and comments wait; with the delta they all come, in order."""
    reader, out = _fed(_chunk({"role": "assistant"}), b": keepalive\n\n")
    assert (reader.committed, out) == (False, [])
    reader, out = _fed(_chunk({"role": "assistant"}), _chunk({"content": "a"}))
    assert reader.committed
    assert len(out) == 2


@pytest.mark.parametrize(
    "delta", [{"content": "a"}, {"reasoning_content": "a"}, {"tool_calls": [{"index": 0}]}, {"refusal": "no"}]
)
def test_every_kind_of_delta_commits_and_is_progress(delta: dict[str, Any]) -> None:
    """A reasoning model is at work before it says anything."""
    reader = StreamReader()
    assert reader.feed(_chunk(delta))[1]
    assert reader.committed


@pytest.mark.parametrize("delta", [{}, {"role": "assistant"}, {"content": ""}, {"content": None}, {"tool_calls": []}])
def test_a_delta_without_content_is_no_progress(delta: dict[str, Any]) -> None:
    """A drip of empty chunks must not keep a stalled stream alive."""
    reader = StreamReader()
    assert not reader.feed(_chunk(delta))[1]
    assert not reader.committed


def test_endless_empty_chunks_are_silence() -> None:
    """Waiting has a limit in chunks too."""
    with pytest.raises(Failed, match="no content"):
        _fed(*[_chunk({"role": "assistant"})] * (WAITING_CHUNKS_MAX + 1))


@pytest.mark.parametrize("finish", ["length", "content_filter", "tool_calls"])
def test_an_outcome_without_a_delta_is_an_answer(finish: str) -> None:
    """A content filter's verdict is for the caller to see."""
    reader, out = _fed(_chunk({}, finish))
    reader.end()
    assert len(out) == 1


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ((), Kind.CUT),
        ((_chunk({"role": "assistant"}),), Kind.CUT),
        ((_chunk({"content": "a"}),), Kind.CUT),
        ((_chunk({}, "stop"),), Kind.EMPTY),
        ((event(b"[DONE]"),), Kind.EMPTY),
    ],
)
def test_an_end_that_is_not_whole_is_a_failure(pieces: tuple[bytes, ...], kind: Kind) -> None:
    """A cut is never success; an answer without content is none."""
    reader, _ = _fed(*pieces)
    with pytest.raises(Failed) as caught:
        reader.end()
    assert caught.value.kind is kind


def test_nothing_may_be_left_to_say() -> None:
    """Where an answer has begun elsewhere its end alone is an answer; an end that is not said is none."""
    reader = StreamReader(begun=True)
    ready, _ = reader.feed(_chunk({}, "stop"))
    reader.end()
    assert len(ready) == 1
    with pytest.raises(Failed):
        StreamReader(begun=True).end()


@pytest.mark.parametrize("last", [_chunk({}, "stop"), event(b"[DONE]")])
def test_finish_reason_or_done_is_an_end(last: bytes) -> None:
    """Either suffices."""
    _fed(_chunk({"content": "a"}), last)[0].end()


def test_nothing_after_done_counts() -> None:
    """Whatever a server appends is not handed on."""
    _, out = _fed(_chunk({"content": "a"}) + event(b"[DONE]") + _chunk({"content": "b"}))
    assert len(out) == 1


def test_an_error_inside_the_stream_is_a_failure_with_its_code_only() -> None:
    """The provider's words stay out."""
    with pytest.raises(Failed) as caught:
        _fed(event(b'{"error": {"code": "overloaded", "message": "key sk-1"}}'))
    assert (caught.value.kind, caught.value.code) == (Kind.IN_BAND, "overloaded")
    assert "sk-1" not in str(caught.value)


@pytest.mark.parametrize("bad", [b"{", b"3", b'"x"', b"\xff", b"[" * 50_000])
def test_one_bad_chunk_is_passed_over_and_three_are_a_failure(bad: bytes) -> None:
    """A flaw is forgiven, a foreign protocol is not."""
    _, out = _fed(event(bad), _chunk({"content": "a"}), event(bad))
    assert len(out) == 1
    with pytest.raises(Failed) as caught:
        _fed(*[event(bad)] * 3)
    assert caught.value.kind is Kind.NOT_JSON


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["choices", "delta", "error", "text", "finish_reason", "content"]), inner, max_size=3), max_leaves=12))  # fmt: skip  # noqa: E501 - one strategy
def test_any_json_is_read_or_refused(value: Any) -> None:
    """No shape of a chunk breaks the reader."""
    reader = StreamReader()
    try:
        reader.feed(event(json.dumps(value).encode()))
    except Failed as failure:
        assert failure.kind is Kind.IN_BAND  # noqa: PT017 - both outcomes are right


@pytest.mark.parametrize("between", [b"\n", b"\r", b"\r\n", b"\ndata:\n"])
def test_a_chunk_of_several_lines_is_handed_on_as_one(between: bytes) -> None:
    """JSON may hold line breaks between its values: such an event is of several `data:` lines, some of them empty."""
    line, rest = b'{"choices":[{"index":0,', b'"delta":{"content":"x"}}]}'
    ready, _ = StreamReader().feed(b"data: " + line + between + b"data: " + rest + b"\n\n")
    assert _read([event(chunk.raw) for chunk in ready]) == [line + rest]


def test_a_stream_of_two_choices_is_whole_when_both_ended() -> None:
    """The end of the first does not hide that the second was cut."""

    def chunk(index: int, finish: str | None) -> bytes:
        choice = {"index": index, "delta": {"content": "x"}, "finish_reason": finish}
        return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"

    reader = StreamReader(2)
    reader.feed(chunk(0, "stop") + chunk(1, None))
    assert not reader.finished
    with pytest.raises(Failed):
        reader.end()
    reader.feed(chunk(1, "length"))
    reader.end()
