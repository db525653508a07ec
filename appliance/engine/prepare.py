"""From a request's body to the answers that are to be made: options, template, tokens, grammar. It blocks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from appliance.engine.constraint import read_constraint
from appliance.engine.cutting import Cutter
from appliance.engine.grammar import Grammars
from appliance.engine.making import Answer
from appliance.engine.messages import Message, inert, plain, read_messages
from appliance.engine.model import Model
from appliance.engine.options import MOST_CHOICES, Options, Refused, read_options
from appliance.engine.template import BadMessages, ChatTemplate
from appliance.engine.tools import OPEN, Toolbox, read_tools


@dataclass(frozen=True)
class Prepared:
    """What a request comes to.

    Attributes:
        answers: One for each choice of each prompt, in OpenAI's order.
        toolbox: What may be called, or None.
        echo: For each answer the prompt that it is to repeat, or empty.
    """

    answers: tuple[Answer, ...]
    toolbox: Toolbox | None = None
    echo: tuple[str, ...] = ()


class Preparer:
    """Prepares requests for one model; safe to share between threads.

    Args:
        model: Loaded.
        most_tokens: The longest answer.
    """

    def __init__(self, model: Model, most_tokens: int) -> None:
        self._model, self._most_tokens = model, most_tokens
        self._template = ChatTemplate(model.template(), model.special("bos"), model.special("eos"))
        self._grammars = Grammars(model)
        control = model.control_texts()
        self._control = re.compile("|".join(map(re.escape, control))) if control else None
        self._cutter = Cutter(model, model.context_tokens)
        self._call_is_token = len(model.tokenize(OPEN, special=True)) == 1

    def chat(self, body: Mapping[str, Any], public_messages: int = 0) -> Prepared:
        """Prepares a chat.

        Args:
            body: The request.
            public_messages: How many of the first messages are text of the bundle.

        Raises:
            Refused: It is malformed, or this model cannot serve it.
        """
        options = read_options(body, self._most_tokens)
        toolbox = read_tools(body)
        grammar = read_constraint(body, toolbox, special=self._call_is_token)
        messages = inert(read_messages(body), self._control)
        tokens = self._cutter.cut(self._render(messages, toolbox, options), "the prompt", special=True)
        public = self._public(messages[:public_messages], tokens)
        answers = self._answers([tokens], options, grammar, special=toolbox is not None)
        return Prepared(tuple(replace(answer, public_tokens=public) for answer in answers), toolbox)

    def text(self, body: Mapping[str, Any]) -> Prepared:
        """Prepares a text completion of one prompt or several.

        Raises:
            Refused: It is malformed, or this model cannot serve it.
        """
        options = read_options(body, self._most_tokens)
        if body.get("tools"):
            raise Refused("tools are for chats", "unsupported_option")
        grammar = read_constraint(body, None, special=self._call_is_token)
        prompts = self._prompts(body.get("prompt"))
        if len(prompts) * options.choices > MOST_CHOICES:
            raise Refused(f"prompts times n may be at most {MOST_CHOICES}", "invalid_request")
        answers = self._answers(prompts, options, grammar, special=False)
        return Prepared(answers, None, tuple(map(self._text_of, answers)) if options.echo else ())

    def _render(self, messages: Sequence[Message], toolbox: Toolbox | None, options: Options) -> str:
        if options.continues and (messages[-1]["role"] != "assistant" or messages[-1].get("tool_calls")):
            raise Refused("continue_final_message needs an assistant's text as the last message", "invalid_request")
        offered = inert([tool.described() for tool in toolbox.tools], self._control) if toolbox is not None else []
        native = self._template.knows_tools
        shown = messages if native else plain(messages, offered)
        try:
            return self._template.render(shown, offered if native else [], continues=options.continues)
        except BadMessages as error:
            raise Refused(str(error), "invalid_request") from error

    def _public(self, messages: Sequence[Message], tokens: Sequence[int]) -> int:
        """Returns how many of the first tokens come from the first messages alone."""
        if not messages:
            return 0
        try:
            alone = self._model.tokenize(self._template.render(messages), special=True)
        except BadMessages:  # a template that wants a question: then nothing is shared
            return 0
        size = min(len(alone), len(tokens))
        return next((place for place in range(size) if alone[place] != tokens[place]), size)

    def _prompts(self, prompt: Any) -> list[list[int]]:
        """A text, texts, tokens, or lists of tokens."""
        if isinstance(prompt, str) or (isinstance(prompt, list) and prompt and isinstance(prompt[0], int)):
            prompt = [prompt]
        if not isinstance(prompt, list) or not prompt:
            raise Refused("prompt must be a text, a list of texts, or tokens", "invalid_request")
        return [self._tokens(item) for item in prompt[: MOST_CHOICES + 1]]

    def _tokens(self, item: Any) -> list[int]:
        if isinstance(item, str):
            return self._cutter.cut(item, "the prompt", special=False, begins=True)
        size = self._model.vocabulary_size
        whole = isinstance(item, list) and all(type(token) is int and 0 <= token < size for token in item)
        if not whole:
            raise Refused(f"prompt must hold texts, or lists of token numbers below {size}", "invalid_request")
        return list(item)

    def _answers(
        self, prompts: Sequence[list[int]], options: Options, grammar: str | None, *, special: bool
    ) -> tuple[Answer, ...]:
        answers: list[Answer] = []
        matcher = None if grammar is None else self._grammars.compiled(grammar).matcher
        for tokens in prompts:
            limit = min(options.max_tokens, self._room(tokens))
            for choice in range(options.choices):
                seed = None if options.seed is None else options.seed + choice
                answer = Answer(
                    len(answers), tuple(tokens), options, limit, seed=seed, matcher=matcher, special=special
                )
                answers.append(answer)
        return tuple(answers)

    def _room(self, tokens: list[int]) -> int:
        """Returns how long an answer may be; raises Refused with the figures where there is no room."""
        if not tokens:
            raise Refused("the prompt is empty", "invalid_request")
        room = self._model.context_tokens - len(tokens)
        if room < 1:
            raise Refused(
                f"the prompt has {len(tokens)} tokens, the context of the local model {self._model.context_tokens}",
                "context_length_exceeded",
            )
        return room

    def _text_of(self, answer: Answer) -> str:
        return b"".join(self._model.piece(token) for token in answer.tokens).decode(errors="replace")
