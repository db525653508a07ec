"""Where the requests of each rung go, and which upstreams are off before anybody asks them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from appliance.answer.facts import EngineFacts
from appliance.gateway.origin import permitted
from appliance.gateway.pace import WHOLE_FACTOR
from appliance.gateway.trusted import PEM, readable
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


def authorities(upstream: UpstreamSpec, settings: Settings) -> str:
    """Returns the certificates that an upstream's must be signed by, as PEM; "" where that is not said."""
    ca = upstream.wire.ca
    return ca if not ca or PEM in ca else settings.cas.get(upstream.name, "")


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


def switched_off(
    upstreams: Sequence[UpstreamSpec], settings: Settings, egress: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Yields the upstreams that are not asked, whatever happens, with the reason."""
    for upstream in upstreams:
        if not permitted(upstream.base_url, egress):
            yield upstream.name, "its address is not on the egress list of the signed policy"
        elif upstream.wire.proxy and not permitted(upstream.wire.proxy, egress):
            yield upstream.name, "its proxy is not on the egress list of the signed policy"
        elif upstream.key and upstream.name not in settings.keys:
            yield upstream.name, f"its key {upstream.key} is not set on this box"
        elif upstream.wire.ca and not authorities(upstream, settings):
            yield upstream.name, f"its authority {upstream.wire.ca} is not set on this box"
        elif not readable(authorities(upstream, settings)):
            yield upstream.name, "its authority is no certificate in PEM"
