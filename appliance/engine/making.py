"""One answer on its way: what was asked, and the tokens as they become text that may be sent."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass

from appliance.engine.grammar import Matcher
from appliance.engine.model import Model
from appliance.engine.options import Options
from appliance.engine.sampling import Drawn, Sampler
from appliance.engine.text import TextOut


@dataclass(frozen=True)
class Score:
    """A token of an answer, its log probability, and the likeliest tokens in its place."""

    token: bytes
    logprob: float
    likeliest: tuple[tuple[bytes, float], ...]


@dataclass(frozen=True)
class Piece:
    """Text that is final, and the scores of the tokens that ended in it."""

    text: str
    scores: tuple[Score, ...] = ()


@dataclass(eq=False)
class Answer:
    """One answer; `finish` is OpenAI's reason once it has ended.

    Attributes:
        index: Its number in the request.
        tokens: The prompt.
        options: What was asked.
        limit: The longest answer in tokens.
        seed: Of its draw, or None.
        matcher: Makes its state in the grammar that it follows, which is compiled, once it is its turn; or None.
        public_tokens: How many of the first tokens of the prompt are of the bundle, and no secret of a tenant.
        special: The text of control tokens is part of the answer (tool calls can be such).
        cached_tokens: How many tokens of the prompt were in the cache.
        completion_tokens: Tokens made so far.
    """

    index: int
    tokens: tuple[int, ...]
    options: Options
    limit: int
    _: KW_ONLY
    seed: int | None = None
    matcher: Callable[[], Matcher] | None = None
    public_tokens: int = 0
    special: bool = False
    cached_tokens: int = 0
    completion_tokens: int = 0
    finish: str | None = None


class Making:
    """Draws the tokens of an answer; `free` must follow."""

    def __init__(self, model: Model, answer: Answer) -> None:
        self.answer = answer
        self._model = model
        options = answer.options
        matcher = None if answer.matcher is None else answer.matcher()
        self._sampler = Sampler(model, options.sampling, answer.seed, matcher, options.logprobs)
        self._text = TextOut(options.stops)
        self._scores: deque[tuple[int, Score]] = deque()  # with the characters before each
        self._sent = 0

    def take(self, place: int) -> tuple[int, Piece]:
        """Draws the next token from the row at `place` of the last batch.

        Returns:
            The token, and what may be sent now; `answer.finish` is set with the last one.

        Raises:
            DeadEnd: The grammar allows none.
        """
        drawn = self._sampler.draw(place)
        answer = self.answer
        answer.completion_tokens += 1
        text = ""
        if self._model.ends(drawn.token):
            answer.finish = "stop"
        else:
            text = self._spell(drawn)
            if self._text.stopped or self._sampler.complete:
                answer.finish = "stop"
            elif answer.completion_tokens >= answer.limit:
                answer.finish = "length"
        if answer.finish is not None:
            text += self._text.finish()
        return drawn.token, self._piece(text)

    def free(self) -> None:
        """Gives the sampler back; nothing may be drawn after it."""
        self._sampler.free()

    def _spell(self, drawn: Drawn) -> str:
        spelled = self._model.piece(drawn.token, special=self.answer.special)
        if drawn.logprob is not None:
            likeliest = tuple((self._model.piece(token, special=True), score) for token, score in drawn.likeliest)
            self._scores.append((self._text.characters, Score(spelled, drawn.logprob, likeliest)))
        return self._text.feed(spelled)

    def _piece(self, text: str) -> Piece:
        """Sends the scores of the tokens whose text has begun to be sent; those of a stop string never are."""
        self._sent += len(text)
        scores: list[Score] = []
        while self._scores and self._scores[0][0] < self._sent:
            scores.append(self._scores.popleft()[1])
        return Piece(text, tuple(scores))
