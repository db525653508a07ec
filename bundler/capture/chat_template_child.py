"""The confined child of `chat_template`."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from typing import IO, Any

from bundler.capture.gguf import CHAT_TEMPLATE_CHARS
from bundler.format.errors import BadInput

LINES_MOST, PROMPT_CHARS = 400, 200_000
_CONFIG_BYTES = 4_000_000
# jinja2's sandbox gives nothing for these, and nobody writes them who means well.
_INTERNALS = re.compile(r"\.\s*__\w|\[\s*['\"]__\w|\|\s*attr\b|\battr\s*\(")
_LOADS = re.compile(r"\{%[-+]?\s*(include|import|from|extends)\b")
_ADDRESS = re.compile(r"\b(?:https?|ftp|file|wss?)://[^\s'\"}]{1,80}")
# Characters that are there and not seen, or that turn the line (Unicode TR 36 and UAX 9).
_UNSEEN = re.compile("[\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]")
_TEXT = r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\""
# A text looked for in what a message says; tags such as </think> belong to the model's own format.
_LOOKED_FOR = re.compile(
    rf"(?:{_TEXT})\s+in\s+\w*(?:message|content|msg|text)|"
    rf"(?:content|message|text)\w*['\"\)\]\s]*\.\s*(?:startswith|endswith|find|index|count)\(\s*(?:{_TEXT})"
    rf"|content(?:'\]|\"\])?\s*[!=]=\s*(?:{_TEXT})"
)
_JSON = re.compile(r"\s*\{(?![{%#])")
_TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
_TAG = re.compile(r"\s*(?:<[^<>]*>|\[[^\[\]]*\]|[^A-Za-z]*)\s*")
_CHATS: tuple[list[dict[str, str]], ...] = (
    [{"role": "user", "content": "Where is the printer?"}],
    [
        {"role": "user", "content": "Where is the printer?"},
        {"role": "assistant", "content": "On the second floor."},
        {"role": "user", "content": "And who mends it?"},
    ],
)


def look_streams(
    request: Mapping[str, Any], inputs: Mapping[str, IO[bytes]], _outputs: Mapping[str, IO[bytes]]
) -> dict[str, Any]:
    """Looks at the template in the request, against `before` and the input `base` where they are given."""
    text, before = str(request["template"]), request["before"]
    try:
        refuse(text)
        rendered(text)
        base = base_of(inputs["base"]) if "base" in inputs else None
    except BadInput as error:
        raise BadInput(f"the chat template of {request['name']}: {error.fact}", error.hint) from error
    return {
        "warnings": list(warnings(text)),
        "since": _difference(before, text, "before", "now") if before is not None else [],
        "base": _difference(base, text, "base model", "this model") if base is not None else [],
    }


def compare_streams(
    request: Mapping[str, Any], _inputs: Mapping[str, IO[bytes]], _outputs: Mapping[str, IO[bytes]]
) -> dict[str, Any]:
    """Compares the two templates in the request."""
    return {"lines": _difference(str(request["before"]), str(request["now"]), "before", "now")}


def refuse(text: str) -> None:
    """Raises BadInput for what no honest template does."""
    for pattern, what in ((_INTERNALS, "it reaches for Python's internals"), (_LOADS, "it loads other templates")):
        if found := pattern.search(text):
            raise BadInput(f"{what}: {text[found.start() : found.start() + 60]!r}", "take the model from its maker")


def rendered(text: str) -> str:
    """Renders chats as the box does; returns the first prompt."""
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals |= {"raise_exception": _refused, "strftime_now": lambda _: "2026-01-01"}
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    prompts = []
    try:
        template = environment.from_string(text)
        for messages in _CHATS:
            prompts.append(template.render(**_TOKENS, messages=messages, add_generation_prompt=True))
    except (
        TemplateError,
        TypeError,
        ValueError,
        ArithmeticError,
        LookupError,
        RecursionError,
        AttributeError,
    ) as error:
        raise BadInput(f"it renders no chat: {type(error).__name__}: {str(error)[:300]}") from error
    for prompt, messages in zip(prompts, _CHATS, strict=True):
        if len(prompt) > PROMPT_CHARS:
            raise BadInput(f"it makes {len(prompt)} characters of a short chat, at most {PROMPT_CHARS}")
        if messages[-1]["content"] not in prompt:
            raise BadInput("what a user says does not come into the prompt")
    return prompts[0]


def warnings(text: str) -> Iterator[str]:
    """Yields what an operator should look at."""
    if found := sorted(set(_ADDRESS.findall(text))):
        yield f"it holds addresses: {', '.join(found[:5])}"
    if unseen := sorted(set(_UNSEEN.findall(text))):
        yield f"it holds characters that are not seen: {', '.join(f'U+{ord(char):04X}' for char in unseen[:10])}"
    looked = [next((part for part in groups if part), "") for groups in _LOOKED_FOR.findall(text)]
    if said := sorted({item for item in looked if item and not _TAG.fullmatch(item)}):
        yield f"it does something else where a message says: {', '.join(repr(item[:80]) for item in said[:5])}"


def base_of(file: IO[bytes]) -> str:
    """Returns the template in a `.jinja` or a `tokenizer_config.json`."""
    data = file.read(_CONFIG_BYTES + 1)
    if len(data) > _CONFIG_BYTES:
        raise BadInput(f"the base model's is longer than {_CONFIG_BYTES} bytes")
    try:
        text = data.decode()
        value = json.loads(text) if _JSON.match(text) else text
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the base model's is no text and no JSON: {error}") from error
    if isinstance(value, dict):
        value = value.get("chat_template")
    if isinstance(value, list):
        named = {item.get("name"): item.get("template") for item in value if isinstance(item, dict)}
        value = named.get("default")
    if not isinstance(value, str) or not value or len(value) > CHAT_TEMPLATE_CHARS:
        raise BadInput("the base model's file holds no chat_template", "name its tokenizer_config.json or .jinja")
    return value


def _difference(old: str, new: str, old_name: str, new_name: str) -> list[str]:
    if old == new:
        return []
    lines = list(difflib.unified_diff(old.splitlines(), new.splitlines(), old_name, new_name, lineterm="", n=1))
    # Where only line ends differ, the texts do and their lines do not.
    lines = lines or [f"--- {old_name}", f"+++ {new_name}", "only the ends of lines differ"]
    rest = len(lines) - LINES_MOST
    return [*lines[:LINES_MOST], *([f"... and {rest} lines more"] if rest > 0 else [])]


def _refused(reason: str) -> None:
    from jinja2 import TemplateError

    raise TemplateError(reason)
