"""The model's own chat template: Jinja in a sandbox. It comes from a signed bundle, and is still foreign code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

# For models that bring none: the ChatML form.
_CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class BadMessages(Exception):
    """The template refuses these messages."""


class ChatTemplate:
    """Renders messages to the prompt that the model was trained on."""

    def __init__(self, source: str, bos: str, eos: str) -> None:
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = _refuse
        self._template = environment.from_string(source or _CHATML)
        self._tokens = {"bos_token": bos, "eos_token": eos}

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """Returns the prompt; raises BadMessages where the template refuses."""
        try:
            return self._template.render(messages=messages, add_generation_prompt=True, **self._tokens)
        except TemplateError as error:
            raise BadMessages(f"the model's chat template refuses these messages: {error}") from error


def _refuse(reason: str) -> None:
    raise TemplateError(reason)
