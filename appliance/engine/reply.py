"""Answers in OpenAI's shapes, whole and as events: chats with tool calls, text completions, log probabilities. Pure."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from appliance.engine.making import Answer, Piece, Score
from appliance.engine.tools import Said, Toolbox, ToolReader

CHAT, TEXT = "chat.completion", "text_completion"


@dataclass
class ChatChoice:
    """One choice of a chat as it grows."""

    answer: Answer
    reader: ToolReader | None
    content: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    begun: bool = False

    def take(self, piece: Piece) -> list[dict[str, Any]]:
        """Takes a piece; returns the choices of the chunks that tell it."""
        self.scores += piece.scores
        said = [Said(piece.text)] if self.reader is None else self.reader.feed(piece.text)
        deltas = [self._delta(part) for part in said if part.text or part.name]
        scores = _chat_scores(piece.scores) if self.answer.options.logprobs is not None else None
        if not deltas and piece.scores:
            deltas = [{"content": ""}]
        return [self._choice(delta, scores if number == 0 else None) for number, delta in enumerate(deltas)]

    def end(self) -> list[dict[str, Any]]:
        """Returns the choices of the last chunks."""
        said = [] if self.reader is None else self.reader.finish()
        choices = [self._choice(self._delta(part), None) for part in said]
        return [*choices, {**self._choice({}, None), "finish_reason": self.finish}]

    @property
    def finish(self) -> str | None:
        ended = self.answer.finish
        return "tool_calls" if self.calls and ended == "stop" else ended

    def whole(self) -> dict[str, Any]:
        """Returns the choice of a whole answer."""
        for part in [] if self.reader is None else self.reader.finish():
            self._delta(part)
        message: dict[str, Any] = {"role": "assistant", "content": self.content or (None if self.calls else "")}
        if self.calls:
            message["tool_calls"] = self.calls
        scores = _chat_scores(self.scores) if self.answer.options.logprobs is not None else None
        return {"index": self.answer.index, "message": message, "logprobs": scores, "finish_reason": self.finish}

    def _delta(self, part: Said) -> dict[str, Any]:
        if part.call is None:
            self.content += part.text
            return {"content": part.text}
        if part.name is not None:
            call = {"id": f"call_{secrets.token_hex(12)}", "type": "function"}
            self.calls.append({**call, "function": {"name": part.name, "arguments": ""}})
            return {
                "tool_calls": [{"index": part.call, **self.calls[-1], "function": {"name": part.name, "arguments": ""}}]
            }
        self.calls[part.call]["function"]["arguments"] += part.text
        return {"tool_calls": [{"index": part.call, "function": {"arguments": part.text}}]}

    def _choice(self, delta: dict[str, Any], scores: dict[str, Any] | None) -> dict[str, Any]:
        role = {} if self.begun else {"role": "assistant"}
        self.begun = True
        return {"index": self.answer.index, "delta": {**role, **delta}, "logprobs": scores, "finish_reason": None}


@dataclass
class TextChoice:
    """One choice of a text completion as it grows; `echo` is the prompt where it was asked for."""

    answer: Answer
    echo: str
    text: str = ""
    offset: int = 0
    scores: list[Score] = field(default_factory=list)

    def take(self, piece: Piece) -> list[dict[str, Any]]:
        """Takes a piece; returns the choices of the chunks that tell it."""
        text = piece.text if self.text else self.echo + piece.text
        self.text += text
        self.scores += piece.scores
        return [self._choice(text, piece.scores, None)]

    def end(self) -> list[dict[str, Any]]:
        """Returns the choices of the last chunks."""
        return [self._choice("" if self.text else self.echo, (), self.answer.finish)]

    def whole(self) -> dict[str, Any]:
        """Returns the choice of a whole answer."""
        self.offset = 0
        return self._choice(self.text or self.echo, self.scores, self.answer.finish)

    def _choice(self, text: str, scores: Sequence[Score], finish: str | None) -> dict[str, Any]:
        told = self._text_scores(scores) if self.answer.options.logprobs is not None else None
        return {"index": self.answer.index, "text": text, "logprobs": told, "finish_reason": finish}

    def _text_scores(self, scores: Sequence[Score]) -> dict[str, Any]:
        offsets = []
        for score in scores:
            offsets.append(self.offset)
            self.offset += len(_word(score.token))
        return {
            "tokens": [_word(score.token) for score in scores],
            "token_logprobs": [score.logprob for score in scores],
            "top_logprobs": [{_word(token): value for token, value in score.likeliest} for score in scores],
            "text_offset": offsets,
        }


class Reply:
    """One request's answers in one body or one stream.

    Args:
        name: The model's.
        digest: The model's.
        kind: CHAT or TEXT.
        answers: One for each choice.
        toolbox: What may be called, or None.
        echo: The prompt where it is to be told again, for each answer.
    """

    def __init__(
        self,
        name: str,
        digest: str,
        kind: str,
        answers: Sequence[Answer],
        toolbox: Toolbox | None,
        echo: Sequence[str] = (),
    ) -> None:
        self._kind, self._answers = kind, answers
        self._head = {
            "id": f"{'chatcmpl' if kind == CHAT else 'cmpl'}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": name,
            "system_fingerprint": digest[:12],
        }
        self._choices: dict[int, ChatChoice | TextChoice] = {}
        for place, answer in enumerate(answers):
            reader = ToolReader(toolbox.tools) if toolbox is not None else None
            chat = kind == CHAT
            choice = ChatChoice(answer, reader) if chat else TextChoice(answer, echo[place] if echo else "")
            self._choices[answer.index] = choice

    def take(self, answer: Answer, piece: Piece) -> list[dict[str, Any]]:
        """Takes a piece of an answer; returns the chunks that tell it."""
        return [self._chunk([choice]) for choice in self._choices[answer.index].take(piece)]

    def end(self, answer: Answer) -> list[dict[str, Any]]:
        """Returns the last chunks of an answer that has ended."""
        return [self._chunk([choice]) for choice in self._choices[answer.index].end()]

    def usage_chunk(self) -> dict[str, Any]:
        """Returns the chunk that tells the usage of the whole request."""
        return {**self._chunk([]), "usage": self.usage()}

    def whole(self) -> dict[str, Any]:
        """Returns the body of the whole answer."""
        choices = [choice.whole() for _, choice in sorted(self._choices.items())]
        return {**self._head, "object": self._kind, "choices": choices, "usage": self.usage()}

    def usage(self) -> dict[str, Any]:
        """Returns the tokens: of each prompt once, whatever the number of its choices, and of all answers."""
        per_prompt = self._answers[0].options.choices
        prompts = self._answers[::per_prompt]
        asked = sum(len(answer.tokens) for answer in prompts)
        said = sum(answer.completion_tokens for answer in self._answers)
        cached = {"cached_tokens": sum(answer.cached_tokens for answer in prompts)}
        whole = {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}
        return {**whole, "prompt_tokens_details": cached}

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self._kind == CHAT else self._kind
        return {**self._head, "object": kind, "choices": choices}


def _chat_scores(scores: Sequence[Score]) -> dict[str, Any]:
    content = [
        {**_score(score.token, score.logprob), "top_logprobs": [_score(*other) for other in score.likeliest]}
        for score in scores
    ]
    return {"content": content, "refusal": None}


def _score(token: bytes, logprob: float) -> dict[str, Any]:
    return {"token": _word(token), "logprob": logprob, "bytes": list(token)}


def _word(token: bytes) -> str:
    return token.decode(errors="replace")
