"""What rungs declare that they can, and which of them a request is therefore not for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from appliance.gateway import kinds
from appliance.gateway.call import Call
from appliance.gateway.language import language_of
from appliance.gateway.options import text_of
from appliance.gateway.residency import kept_here, narrowed
from bundler.format.service import LARGER, ModelSpec, RungSpec, Service, UpstreamSpec

# Needs of a request (`options.needs_of`), and for each the ability that serves it and the word for people.
ABILITY: Mapping[str, tuple[str, str]] = {
    "tools": ("tools", "tools"),
    "response_format": ("schema", "JSON schemas"),
    "image_url": ("vision", "images"),
}
_PLAIN = ("faq", "documents", "message")
# No text of a language takes fewer tokens: a request of more characters than this is too long for certain.
CHARS_PER_TOKEN_MOST = 12


def declared(service: Service, rung: RungSpec) -> UpstreamSpec | ModelSpec | None:
    """Returns the upstream or model behind a rung; the other kinds declare nothing."""
    specs: Sequence[UpstreamSpec | ModelSpec] = ()
    if rung.kind == "upstream":
        specs = service.upstreams
    elif rung.kind == "model":
        specs = service.models
    return next((spec for spec in specs if spec.name == rung.target), None)


def goes_on(service: Service, rung: RungSpec) -> bool:
    """Says whether a rung continues an answer that has begun; a provider that does not say so is never asked to."""
    spec = declared(service, rung)
    return isinstance(spec, ModelSpec) or (isinstance(spec, UpstreamSpec) and spec.continues)


def unable(service: Service, rungs: Sequence[RungSpec], call: Call) -> dict[str, str]:
    """Returns the rungs that by their own declaration cannot serve a call, with the reason."""
    if call.route.output is not None and call.route.output.schema:
        plain = {
            rung.name: "it gives plain text, and this route answers in JSON" for rung in rungs if rung.kind in _PLAIN
        }
    else:
        plain = {}
    declaring = [(rung, spec) for rung in rungs if (spec := declared(service, rung)) is not None]
    told = any(spec.languages for _, spec in declaring)
    language = language_of(call.question) if told else None
    chars = _chars(call.body) if call.route.too_long == LARGER else 0
    found = ((rung.name, _lack(spec, call, language, chars)) for rung, spec in declaring)
    kept = kept_here(rungs, service.upstreams, narrowed((service.limits.regions, call.route.regions, call.regions)))
    return plain | {name: reason for name, reason in found if reason} | kept


def _lack(spec: UpstreamSpec | ModelSpec, call: Call, language: str | None, chars: int) -> str:
    if isinstance(spec, UpstreamSpec):
        if spec.can is not None:
            asked = [ABILITY[need] for need in sorted(call.needs & ABILITY.keys())]
            if missing := [words for ability, words in asked if ability not in spec.can]:
                return f"it does not support {', '.join(missing)}"
        sent = {name: value for name, value in call.body.items() if name not in spec.wire.without}
        if reason := kinds.declines(spec.kind, sent):
            return reason
        if spec.context_tokens and chars > spec.context_tokens * CHARS_PER_TOKEN_MOST:
            return f"the request is longer than its context of {spec.context_tokens} tokens"
    if language is not None and spec.languages and language not in spec.languages:
        return f"it does not answer in the language of the request ({language})"
    return ""


def _chars(body: Mapping[str, Any]) -> int:
    messages = body.get("messages")
    said = [text_of(message.get("content")) for message in messages] if isinstance(messages, list) else []
    prompt = body.get("prompt")
    return sum(map(len, said)) + (len(prompt) if isinstance(prompt, str) else 0)
