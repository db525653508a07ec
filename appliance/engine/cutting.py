"""Cuts texts into tokens, but none that cannot fit: that can take minutes."""

from __future__ import annotations

from typing import Protocol

from appliance.engine.options import Refused


class Tokenizer(Protocol):
    """A model's, `appliance.engine.weights.Weights`."""

    @property
    def vocabulary_size(self) -> int: ...

    @property
    def cuts_words(self) -> bool:
        """Whether each word becomes a token at least, and an unknown one of any length just one (WordPiece)."""

    def piece(self, token: int, *, special: bool = False) -> bytes: ...

    def tokenize(self, text: str, *, special: bool, begins: bool = False) -> list[int]: ...


class Cutter:
    """The tokenizer of a model that reads so many tokens at once.

    Args:
        model: Whose tokenizer it is.
        room_tokens: The most that it reads.
    """

    def __init__(self, model: Tokenizer, room_tokens: int) -> None:
        self._model, self._room = model, room_tokens
        pieces = (model.piece(token, special=True) for token in range(model.vocabulary_size))
        self._most_bytes = room_tokens * max(map(len, pieces), default=1)

    def cut(self, text: str, what: str, *, special: bool, begins: bool = False) -> list[int]:
        """Returns the tokens of a text; they may be more than there is room for.

        Args:
            text: What to cut.
            what: It is called so in a refusal.
            special: The text of control tokens becomes those tokens.
            begins: Put the token in front that begins a text, where the model wants one.

        Raises:
            Refused: It cannot fit, were every token of it the longest.
        """
        size, words = len(text.encode()), len(text.split()) if self._model.cuts_words else self._room
        if size > self._most_bytes and words >= self._room:
            raise Refused(
                f"{what} has {size} bytes, the context of the local model {self._room} tokens",
                "context_length_exceeded",
            )
        return self._model.tokenize(text, special=special, begins=begins)
