"""Fixed texts as completions, passages in front of a chat, and bounded threads."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.answer.context import CHARS_PER_TOKEN, CONTEXT_SHARE, passages, with_context
from appliance.answer.render import Text, body, chunks
from appliance.answer.threads import BoundedThreads
from appliance.gateway.call import CHAT, TEXT, Citation
from appliance.settings import read_keys
from bundler.format.errors import BadInput, Busy
from bundler.format.service import LadderSpec, LimitsSpec, Service, UpstreamSpec


@given(st.text(max_size=300), st.sampled_from([CHAT, TEXT]))
def test_the_pieces_joined_are_the_text(text: str, wire: str) -> None:
    """Whole and streamed say the same, and the stream finishes."""
    rendered = Text(text, "faq", wire, "id-1", 7)
    choices = [chunk.value["choices"][0] for chunk in chunks(rendered, usage=False)]
    said = "".join(choice.get("text", "") or choice.get("delta", {}).get("content", "") for choice in choices)
    whole = body(rendered)["choices"][0]
    assert said == text
    assert (whole["message"]["content"] if wire == CHAT else whole["text"]) == text
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["stop"]


def test_the_first_chunk_names_the_role_and_usage_comes_last() -> None:
    """As OpenAI's own streams do."""
    found = [chunk.value for chunk in chunks(Text("x" * 100, "faq", CHAT, "id-1", 7), usage=True)]
    assert [("role" in chunk["choices"][0]["delta"]) for chunk in found[:-1]] == [True, False, False, False]
    assert (found[-1]["choices"], found[-1]["usage"]["total_tokens"]) == ([], 0)


def _cited(text: str, source: str = "a.md") -> Citation:
    return Citation(source, 0, len(text), text)


def test_passages_name_their_source_and_none_comes_twice() -> None:
    """A quotation that is part of a passage above it is not repeated."""
    text = passages([_cited("Lost laptops are wiped.")], [("a.md", "Lost laptops are wiped."), ("b.md", "More.")], 1000)
    assert text == "[a.md]\nLost laptops are wiped.\n\n[b.md]\nMore."


@given(st.lists(st.text(min_size=1, max_size=200), max_size=10), st.integers(0, 500))
def test_passages_keep_to_their_share(texts: list[str], context_tokens: int) -> None:
    """The room is never passed, whatever the documents hold."""
    room = context_tokens * CHARS_PER_TOKEN // CONTEXT_SHARE
    text = passages([], [("s", each) for each in texts], context_tokens)
    assert len(text) <= room + 2 * len(texts)


@pytest.mark.parametrize(
    ("messages", "roles"),
    [
        ([{"role": "user", "content": "q"}], ["system", "user"]),
        ([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "q"}], ["system", "user"]),
        ([{"role": "developer", "content": [{"type": "text", "text": "Be kind."}]}], ["system"]),
    ],
)
def test_the_caller_s_instruction_stays_first(messages: list[dict[str, Any]], roles: list[str]) -> None:
    """There is one system message, and it begins with the caller's own."""
    found = with_context(messages, "PASSAGES")
    assert [message["role"] for message in found] == roles
    assert found[0]["content"].endswith("PASSAGES")
    assert found[0]["content"].startswith("Be kind.") == (messages[0]["role"] != "user")
    assert with_context(messages, "") == messages


def test_threads_are_bounded() -> None:
    """One works, one waits, the third is refused; afterwards there is room again."""
    pool, release = BoundedThreads(1, 1), threading.Event()

    async def main() -> int:
        async with anyio.create_task_group() as group:
            group.start_soon(pool.run, release.wait)
            group.start_soon(pool.run, release.wait)
            await anyio.lowlevel.checkpoint()
            await anyio.lowlevel.checkpoint()
            with pytest.raises(Busy):
                await pool.run(lambda: 1)
            release.set()
        return await pool.run(lambda: 7)

    assert anyio.run(main) == 7


def _service(key: str) -> Service:
    ladder = LadderSpec((), (), (), "", "", "")
    upstream = UpstreamSpec("a", "https://a.example", "m", key, "", 1, 1, 1)
    return Service("p", "t", (), None, (), (), (), (upstream,), ladder, LimitsSpec(1, 1, 1), None, ())


@pytest.mark.parametrize(
    ("key", "found"), [("env:A_KEY", {"a": "sk-1"}), ("vault", {"a": "sk-2"}), ("env:NONE", {}), ("none", {}), ("", {})]
)
def test_keys_come_from_the_environment_or_the_box_s_secrets(key: str, found: dict[str, str]) -> None:
    """A missing one is missing, not empty."""
    assert read_keys(_service(key), {"vault": "sk-2"}, {"A_KEY": "sk-1\n", "OTHER": "x"}) == found


def test_a_key_that_no_header_carries_is_refused() -> None:
    """A line break would be a header of its own."""
    with pytest.raises(BadInput, match="upstream a"):
        read_keys(_service("env:K"), {}, {"K": "a\nb"})
