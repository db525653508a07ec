"""Where the requests of each rung go. Pure."""

from __future__ import annotations

import msgspec

from appliance.answer.facts import EngineFacts
from appliance.answer.off import authorities
from appliance.gateway.pace import WHOLE_FACTOR
from appliance.gateway.upstream import Sending, Target
from appliance.settings import Settings
from bundler.format.service import ModelSpec, UpstreamSpec

# The engine queues requests and runs on CPUs: only silence far beyond one slow token means that it hangs.
ENGINE_STALL_S = 60.0


def provider_target(upstream: UpstreamSpec, settings: Settings) -> Target:
    """Returns where a provider's requests go."""
    first_s, wire = upstream.first_token_timeout_ms / 1000, upstream.wire
    return Target(
        name=upstream.name,
        base_url=upstream.base_url,
        model=upstream.model,
        key=settings.keys.get(upstream.name, ""),
        socket=None,
        connect_s=upstream.connect_timeout_ms / 1000,
        first_token_s=first_s,
        whole_s=first_s * WHOLE_FACTOR,
        stall_s=upstream.stall_timeout_ms / 1000,
        kind=upstream.kind,
        sending=Sending(
            auth=wire.auth,
            query=tuple((pair.name, pair.value) for pair in wire.query),
            headers=tuple((pair.name, pair.value) for pair in wire.headers),
            body=msgspec.json.decode(wire.body, type=dict) if wire.body else {},
            without=frozenset(wire.without),
            proxy=wire.proxy,
            ca=authorities(upstream, settings),
        ),
    )


def engine_target(model: ModelSpec, engine: EngineFacts, request_s: float) -> Target:
    """Returns where a local model's requests go: its Unix socket, so the URL's host means nothing."""
    return Target(
        name=model.name,
        base_url="http://engine/v1",
        model=model.name,
        key="",
        socket=engine.socket,
        connect_s=2.0,
        first_token_s=request_s,
        whole_s=request_s,
        stall_s=ENGINE_STALL_S,
    )
