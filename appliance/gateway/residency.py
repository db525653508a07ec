"""Where the data of a request may go: the regions that profile, route and tenant allow, or none. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bundler.format.service import RungSpec, UpstreamSpec

# The regions that an upstream may be in; None is any, and none named is no upstream at all.
Allowed = tuple[str, ...] | None


def narrowed(limits: Iterable[Allowed]) -> Allowed:
    """Returns what all of the limits allow."""
    allowed: Allowed = None
    for limit in limits:
        if limit is not None:
            allowed = limit if allowed is None else tuple(region for region in allowed if region in limit)
    return allowed


def kept_here(rungs: Sequence[RungSpec], upstreams: Sequence[UpstreamSpec], allowed: Allowed) -> dict[str, str]:
    """Returns the rungs that a request may not go to, with the reason."""
    if allowed is None:
        return {}
    regions = {upstream.name: upstream.region for upstream in upstreams}
    outside = [rung for rung in rungs if rung.kind == "upstream" and regions.get(rung.target) not in allowed]
    words = f"may go to {', '.join(allowed)} alone" if allowed else "may not leave this box"
    return {rung.name: f"the data of this request {words}" for rung in outside}
