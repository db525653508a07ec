"""A chat completion's events as a message's: whatever comes, blocks open and close in order, and one end is told."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from appliance.routes.messages_out import EventWriter

CALL = st.builds(
    lambda index, name, arguments: {"index": index, "function": {"name": name, "arguments": arguments}},
    st.integers(0, 2),
    st.sampled_from(["f", "g"]),
    st.text(max_size=4),
)
DELTA = st.fixed_dictionaries(
    {},
    optional={
        "content": st.text(max_size=4),
        "reasoning_content": st.text(max_size=4),
        "refusal": st.text(max_size=4),
        "tool_calls": st.lists(CALL, max_size=2),
    },
)
CHUNK = DELTA.map(lambda delta: {"id": "c", "model": "m", "choices": [{"delta": delta, "finish_reason": None}]})


def _written(chunks: list[dict[str, Any]], *, thinking: bool) -> list[dict[str, Any]]:
    writer = EventWriter(thinking=thinking)
    raw = [json.dumps(chunk).encode() for chunk in chunks]
    said: list[bytes] = []
    for data in [*raw, b"[DONE]"]:
        said += writer.feed(data) if not writer.over else []
    return [json.loads(event.split(b"\ndata: ")[1]) for event in said]


@given(st.lists(CHUNK, max_size=6), st.booleans())
def test_blocks_open_and_close_in_order(chunks: list[dict[str, Any]], thinking: bool) -> None:
    """One block is open at a time, deltas are of the open one, and a message that did not err has one end."""
    events = _written(chunks, thinking=thinking)
    assert [event["type"] for event in events].count("message_start") == 1
    open_block, seen = None, -1
    for event in events:
        if event["type"] == "content_block_start":
            assert (open_block, event["index"]) == (None, seen + 1)
            open_block = seen = event["index"]
        elif event["type"] == "content_block_delta":
            assert event["index"] == open_block
        elif event["type"] == "content_block_stop":
            assert event["index"] == open_block
            open_block = None
    if events[-1]["type"] != "error":
        assert open_block is None
        assert [event["type"] for event in events[-2:]] == ["message_delta", "message_stop"]


@given(st.lists(CHUNK, max_size=6))
def test_no_text_is_lost(chunks: list[dict[str, Any]]) -> None:
    """The pieces of text are those of the chunks, in their order."""
    events = _written(chunks, thinking=False)
    if events[-1]["type"] == "error":
        return  # calls of tools came mixed up: nothing of that is an answer
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    said = "".join(delta["text"] for delta in deltas if delta["type"] == "text_delta")
    of = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert said == "".join(delta.get("content", "") + delta.get("refusal", "") for delta in of)
