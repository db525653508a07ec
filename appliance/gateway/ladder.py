"""Which rungs a request may climb, in order, and why the others are skipped. Pure: nothing here awaits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from appliance.engine.pooled_request import AUTO
from appliance.gateway.caching import KEEPS
from appliance.gateway.call import Skip
from bundler.format.service import LadderSpec, RungSpec, UpstreamSpec

# What a rung of a kind can be held to. A provider is asked and answers for itself; the engine checks its options again;
# the other rungs of the box give one plain text.
CAPABLE: Mapping[str, frozenset[str] | None] = {
    "upstream": None,
    "model": frozenset({"tools", "response_format", "n", "logprobs", "logit_bias", "echo", "several prompts"}),
    "cache": KEEPS,
    "faq": frozenset(),
    "documents": frozenset(),
    "message": frozenset(),
}


@dataclass(frozen=True)
class Plan:
    """The rungs to try, in order, and those that are passed over without a try."""

    attempts: tuple[RungSpec, ...]
    skips: tuple[Skip, ...]


def decide(
    rungs: Sequence[RungSpec],
    unavailable: Mapping[str, str],
    needs: frozenset[str] = frozenset(),
    cannot: Mapping[str, str] = MappingProxyType({}),
) -> Plan:
    """Splits the rungs into those to try and those to skip.

    Args:
        rungs: The ladder, best first.
        unavailable: Rungs that cannot be asked now, with the reason.
        needs: Options of the request that a rung must honour.
        cannot: Rungs that could never serve this request, with the reason.
    """
    attempts: list[RungSpec] = []
    skips: list[Skip] = []
    for rung in rungs:
        capable = CAPABLE[rung.kind]
        missing = needs - capable if capable is not None else frozenset()
        if missing:
            skips.append(Skip(rung.name, f"it does not support {', '.join(sorted(missing))}", incapable=True))
        elif rung.name in cannot:
            skips.append(Skip(rung.name, cannot[rung.name], incapable=True))
        elif rung.name in unavailable:
            skips.append(Skip(rung.name, unavailable[rung.name]))
        else:
            attempts.append(rung)
    return Plan(tuple(attempts), tuple(skips))


def order(ladder: LadderSpec, names: Sequence[str]) -> tuple[RungSpec, ...]:
    """Returns the rungs that `names` (such as `ladder.chat`) lists, in that order."""
    by_name = {rung.name: rung for rung in ladder.rungs}
    return tuple(by_name[name] for name in names)


def pinned(ladder: LadderSpec, upstreams: Sequence[UpstreamSpec], model: str) -> tuple[RungSpec, ...] | None:
    """Returns the rungs that a request for `model` may climb, or None for a name that nothing here serves.

    `auto` is the chat ladder. The name of a rung, of a local model, of an upstream or of an upstream's model pins the
    request to the rungs that serve it: whoever names a model gets that model or an error, never another one.
    """
    if model == AUTO:
        return order(ladder, ladder.chat)
    asked = {upstream.name for upstream in upstreams if upstream.model == model} | {model}
    serving = tuple(
        rung for rung in ladder.rungs if rung.kind in ("upstream", "model") and {rung.name, rung.target} & asked
    )
    return serving or None
