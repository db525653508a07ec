"""Which upstreams are off before anybody asks them. Pure, and without an HTTP client: `doctor` asks, too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from appliance.gateway.origin import permitted
from appliance.gateway.trusted import PEM, readable
from appliance.settings import Settings
from bundler.format.service import UpstreamSpec


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


def authorities(upstream: UpstreamSpec, settings: Settings) -> str:
    """Returns the certificates that an upstream's must be signed by, as PEM; "" where that is not said."""
    ca = upstream.wire.ca
    return ca if not ca or PEM in ca else settings.cas.get(upstream.name, "")
