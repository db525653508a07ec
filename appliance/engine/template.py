"""The model's own chat template, signed with its bundle and still foreign code: Jinja in a sandbox, with a deadline."""

from __future__ import annotations

import ctypes
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from appliance.engine.tools import OPEN

DEADLINE_S = 2.0
# For models that bring none: the ChatML form.
_CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class BadMessages(Exception):
    """The template refuses these messages, or does not come to an end with them."""


class _TooSlow(Exception):
    """The deadline is over."""


class ChatTemplate:
    """Renders messages to the prompt that the model was trained on.

    Args:
        source: Jinja, or "" for ChatML.
        bos: Text of the token that begins a text.
        eos: Text of the token that ends one.
        deadline_s: The longest that rendering may take.

    Attributes:
        knows_tools: It renders tools in the notation of `tools.py`.
    """

    def __init__(self, source: str, bos: str, eos: str, deadline_s: float = DEADLINE_S) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().astimezone().strftime(form)
        # Jinja's own escapes for HTML; a model was trained on plain JSON.
        environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
        self._template = environment.from_string(source or _CHATML)
        self._tokens = {"bos_token": bos, "eos_token": eos}
        self._deadline_s = deadline_s
        self.knows_tools = OPEN in source

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        continues: bool = False,
    ) -> str:
        """Returns the prompt; not on the thread of an event loop, since it may take until the deadline.

        Args:
            messages: With `role` and `content`.
            tools: As OpenAI writes them, for a template that knows tools.
            continues: The last message is left open, and the answer goes on from its end.

        Raises:
            BadMessages: The template refuses, or takes too long.
        """
        context: dict[str, Any] = {**self._tokens, "messages": messages, "add_generation_prompt": not continues}
        if tools:
            context["tools"] = tools
        try:
            with _deadline(self._deadline_s):
                text = self._template.render(context)
        except _TooSlow:
            raise BadMessages(f"the model's chat template took longer than {self._deadline_s:g} s") from None
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError) as error:
            raise BadMessages(f"the model's chat template refuses these messages: {error}") from error
        return _opened(text, str(messages[-1]["content"])) if continues else text


def _opened(text: str, last: str) -> str:
    """Cuts what the template puts after the last message."""
    place = text.rfind(last.strip())
    if place < 0 or not last.strip():
        raise BadMessages("the model's chat template does not show the last message, so it cannot be continued")
    return text[: place + len(last.strip())]


@contextmanager
def _deadline(limit_s: float) -> Iterator[None]:
    """Raises _TooSlow in this thread after `limit_s`: between two bytecodes, so a loop of the template ends."""
    thread, lock, over = threading.get_ident(), threading.Lock(), False

    def ring() -> None:
        with lock:
            if not over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(_TooSlow))

    timer = threading.Timer(limit_s, ring)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with lock:
            over = True


def _refuse(reason: str) -> None:
    raise TemplateError(reason)
