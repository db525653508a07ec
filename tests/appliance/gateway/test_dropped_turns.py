"""Dropping the oldest turns keeps what belongs together."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from appliance.gateway.turns import SHARES, shortened

ROLES = ["system", "developer", "user", "assistant", "tool"]
MESSAGES = st.lists(
    st.builds(lambda role, size: {"role": role, "content": "x" * size}, st.sampled_from(ROLES), st.integers(0, 50)),
    max_size=12,
)


def test_a_call_and_its_result_go_together() -> None:
    """A turn is a user's message with all that follows it."""
    old: list[dict[str, Any]] = [
        {"role": "user", "content": "x" * 100},
        {"role": "assistant", "tool_calls": [{"id": "1"}]},
        {"role": "tool", "content": "y" * 100},
        {"role": "assistant", "content": "z"},
    ]
    new = {"role": "user", "content": "and now?"}
    system = {"role": "system", "content": "be kind"}
    assert shortened([system, *old, new], 0.5) == ([system, new], 1)
    assert shortened([system, *old, new], 1.0) == ([system, *old, new], 0)


@given(messages=MESSAGES, share=st.sampled_from(SHARES))
def test_what_is_left_is_the_end_of_the_conversation(messages: list[dict[str, Any]], share: float) -> None:
    """System messages stay, order stays, and the newest turn is always there."""
    left, dropped = shortened(messages, share)
    standing = [message for message in messages if message["role"] in ("system", "developer")]
    spoken = [message for message in messages if message not in standing]
    kept = [message for message in left if message["role"] not in ("system", "developer")]
    assert [message for message in left if message["role"] in ("system", "developer")] == standing
    assert kept == spoken[len(spoken) - len(kept) :]
    assert bool(kept) == bool(spoken)
    assert (dropped == 0) == (kept == spoken)
