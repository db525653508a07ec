"""The turns of a conversation, oldest first, and what is left of them when all are too long. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Message = dict[str, Any]

# Shares of a conversation's characters that are tried one after the other; the last leaves the newest turn alone.
SHARES = (0.5, 0.25, 0.0)
_STANDING = ("system", "developer")


def shortened(messages: Sequence[Message], share: float) -> tuple[list[Message], int]:
    """Drops the oldest turns; returns the messages that are left and the number of turns that are not.

    A turn is a user's message with everything up to the next one, so that no tool's result loses its call. System
    messages stay wherever they stand, and so does the newest turn.

    Args:
        messages: The conversation.
        share: How much of its length the turns that are left may have, from 0 to 1.
    """
    turns = _turns(messages)
    room = share * sum(map(_chars, messages))
    kept = turns[-1:]
    for turn in reversed(turns[:-1]):
        if sum(_length(messages, each) for each in (*kept, turn)) > room:
            break
        kept.insert(0, turn)
    left = {place for turn in kept for place in turn}
    shown = [message for place, message in enumerate(messages) if place in left or message.get("role") in _STANDING]
    return shown, len(turns) - len(kept)


def _turns(messages: Sequence[Message]) -> list[list[int]]:
    """Returns the places of the messages of each turn; what stands before the first user's message is a turn, too."""
    turns: list[list[int]] = []
    for place, message in enumerate(messages):
        if message.get("role") in _STANDING:
            continue
        if message.get("role") == "user" or not turns:
            turns.append([])
        turns[-1].append(place)
    return turns


def _length(messages: Sequence[Message], turn: Sequence[int]) -> int:
    return sum(_chars(messages[place]) for place in turn)


def _chars(message: Message) -> int:
    return len(str(message.get("content") or "")) + len(str(message.get("tool_calls") or ""))
