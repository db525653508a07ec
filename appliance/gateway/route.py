"""How a model name is served: by a route of the profile, by the chat ladder, or by the one rung of that name. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from appliance.engine.pooled_request import AUTO
from appliance.gateway.ladder import order, pinned
from bundler.format.service import RouteSpec, RungSpec, Service


def route_of(service: Service, model: str) -> RouteSpec | None:
    """Returns how a request for `model` is served, None for a name that nothing here serves.

    A route of the profile comes first, also where an upstream's model has its name. `auto` is the chat ladder where no
    route redefines it.
    """
    for route in service.routes:
        if route.name == model:
            return route
    rungs = pinned(service.ladder, service.upstreams, model)
    if rungs is None:
        return None
    names, ladder = tuple(rung.name for rung in rungs), service.ladder
    if model != AUTO:
        return RouteSpec(model, names)
    return RouteSpec(model, names, cache=ladder.cache, jobs_keep_s=ladder.jobs_keep_s)


def rungs_of(service: Service, route: RouteSpec) -> tuple[RungSpec, ...]:
    """Returns the rungs of a route, in order."""
    return order(service.ladder, route.rungs)


def names_of(service: Service) -> list[str]:
    """Returns every name that `model` may have in a chat, `auto` first."""
    served = [rung.target for rung in service.ladder.rungs if rung.kind in ("model", "upstream")]
    aliases = [upstream.model for upstream in service.upstreams if upstream.name in served]
    return list(dict.fromkeys([AUTO, *(route.name for route in service.routes), *served, *aliases]))


def after(rungs: Sequence[RungSpec], name: str) -> tuple[RungSpec, ...]:
    """Returns the rungs that come after the one of this name."""
    names = [rung.name for rung in rungs]
    return tuple(rungs[names.index(name) + 1 :]) if name in names else ()
