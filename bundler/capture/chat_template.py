"""Looks at a chat template, which decides what a model is told: in a confined child, against what it was and its base.

A template is a program in Jinja that whoever re-packs a model can change, and the box runs what the GGUF brings. What
no honest template does is refused; what some do, and an altered one may abuse, is told to the operator.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bundler.confine import Confinement, run_confined
from bundler.format.limits import MIB
from bundler.format.record import from_json

_CONFINEMENT = Confinement(memory_bytes=512 * MIB, cpu_s=5, wall_s=60, output_bytes=MIB, result_bytes=4 * MIB)


@dataclass(frozen=True)
class TemplateFacts:
    """What was found.

    Attributes:
        warnings: What an operator should look at.
        since: Lines of a unified diff to what it was before, none where it is the same.
        base: The same to the base model's, where one was given.
    """

    warnings: tuple[str, ...]
    since: tuple[str, ...]
    base: tuple[str, ...]


@dataclass(frozen=True)
class _Lines:
    lines: tuple[str, ...]


def look(name: str, text: str, *, before: str | None = None, base: Path | None = None) -> TemplateFacts:
    """Compiles a template, renders a short chat with it, and compares it.

    Args:
        name: Of the model.
        text: The template.
        before: What it was, or None.
        base: The base model's: a `.jinja`, or a `tokenizer_config.json` with a `chat_template`.

    Raises:
        BadInput: It does not compile, loads other templates, reaches for Python's internals, renders no chat of a user,
            or takes too long or too much for that; or the base holds no template.
    """
    result = run_confined(
        "bundler.capture.chat_template_child:look_streams",
        {"name": name, "template": text, "before": before},
        inputs={} if base is None else {"base": base},
        confinement=_CONFINEMENT,
    )
    facts = from_json(TemplateFacts, result, f"the facts of the chat template of {name}")
    return TemplateFacts(*(tuple(map(shown, lines)) for lines in (facts.warnings, facts.since, facts.base)))


def changes(name: str, before: str, now: str) -> tuple[str, ...]:
    """Returns the lines of a unified diff of two templates of a model, none where they are the same."""
    request = {"name": name, "before": before, "now": now}
    result = run_confined("bundler.capture.chat_template_child:compare_streams", request, confinement=_CONFINEMENT)
    return tuple(map(shown, from_json(_Lines, result, f"the changes of {name}").lines))


def shown(line: str) -> str:
    """Returns a line with everything that a terminal would not show, or would obey, written out."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
