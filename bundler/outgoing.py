"""What of a request leaves the building under a profile, where to, and what is taken out before: for people. Pure."""

from __future__ import annotations

from urllib.parse import urlsplit

from bundler.format.service import RouteSpec, UpstreamSpec
from bundler.profile.model import Profile

CHAT, ASK = "auto", "/v1/ask"
NOTHING = "no request leaves the building: no upstream is asked"


def outgoing(profile: Profile) -> tuple[str, ...]:
    """Returns a line for each provider, what is taken out of requests, and where tickets go."""
    asked = [upstream for upstream in profile.upstreams if _allowed(upstream, profile.limits.regions)]
    kept = [upstream for upstream in profile.upstreams if upstream not in asked]
    lines = [_provider(profile, upstream) for upstream in asked] or [NOTHING]
    lines += [f"nothing goes to {each.name} ({_place(each)}): its region is not in `regions`" for each in kept]
    lines += [_taken_out(profile)] if asked else []
    if profile.handoff is not None:
        lines.append(f"tickets for a person, with the conversation, go to {_host(profile.handoff.url)}")
    return tuple(lines)


def _provider(profile: Profile, upstream: UpstreamSpec) -> str:
    rungs = {rung.name for rung in profile.ladder.rungs if rung.kind == "upstream" and rung.target == upstream.name}
    names = [route.name for route in profile.routes if _serves(route, rungs, upstream)]
    chat = CHAT not in {route.name for route in profile.routes} and rungs & set(profile.ladder.chat)
    ladders = [*([CHAT] if chat else []), *names, *([ASK] if rungs & set(profile.ladder.ask) else [])]
    through = f" through {_host(upstream.wire.proxy)}" if upstream.wire.proxy else ""
    who = f"of {', '.join(ladders)}, and of who names it" if ladders else "of who names it"
    return f"requests go to {upstream.name} ({_place(upstream)}){through}: {who}"


def _serves(route: RouteSpec, rungs: set[str], upstream: UpstreamSpec) -> bool:
    return bool(rungs & set(route.rungs)) and _allowed(upstream, route.regions)


def _allowed(upstream: UpstreamSpec, regions: tuple[str, ...] | None) -> bool:
    return regions is None or upstream.region in regions


def _place(upstream: UpstreamSpec) -> str:
    return f"{_host(upstream.base_url)}, {f'region {upstream.region}' if upstream.region else 'no region named'}"


def _host(url: str) -> str:
    return urlsplit(url).netloc


def _taken_out(profile: Profile) -> str:
    if not profile.redact:
        return "nothing is taken out of them before: there is no [[redact]]"
    back = [rule.name for rule in profile.redact if rule.restore]
    gone = [rule.name for rule in profile.redact if not rule.restore]
    parts = [f"{', '.join(back)} (put back into the answer)"] if back else []
    parts += [f"{', '.join(gone)} (for good)"] if gone else []
    return f"before that is taken out: {'; '.join(parts)}"
