"""What a token may do, from where, and how often. Pure: the address, the time and what was spent are arguments."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from bundler.format.errors import BadInput
from bundler.format.record import LATER

VERBS = ("ask", "chat", "completions", "embeddings", "faq", "messages", "models", "rerank", "route", "search")
_SPENDING = frozenset({"ask", "chat", "completions", "embeddings", "messages", "rerank"})
ENTRIES_MOST, NAME_CHARS, REQUESTS_MOST, TOKENS_A_DAY_MOST = 100, 200, 1_000_000, 10**12
_OWN = ("jobs",)
_MINUTE_S = 60.0


@dataclass(frozen=True)
class Grant:
    """Limits of a token; what is empty or 0 has none.

    Attributes:
        verbs: Of VERBS: the parts of `/v1` that it may ask.
        models: Names that it may ask for, of routes, models or providers; `auto` is one of them.
        networks: CIDR networks that it may come from.
        requests_a_minute: How many requests.
        regions: The regions of upstreams to which its data may go; None is any, and none named is no upstream.
        tokens_a_day: How many model tokens, asked and answered, a day of UTC.
    """

    verbs: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    requests_a_minute: int = 0
    regions: tuple[str, ...] | None = field(default=None, metadata=LATER)
    tokens_a_day: int = field(default=0, metadata=LATER)


ANYTHING = Grant()


def checked(grant: Grant) -> Grant:
    """Returns a grant whose networks are written in one way.

    Raises:
        BadInput: A verb that is none, a network that is none, or a name or number that cannot be.
    """
    if unknown := sorted(set(grant.verbs) - set(VERBS)):
        raise BadInput(f"there is no verb {', '.join(unknown)}", f"verbs: {', '.join(VERBS)}")
    if any(not name.isprintable() or not 0 < len(name) <= NAME_CHARS for name in grant.models):
        raise BadInput(f"a model's name has 1 to {NAME_CHARS} printable characters")
    regions = grant.regions or ()
    if any(not name.isprintable() or name != name.strip() or not 0 < len(name) <= NAME_CHARS for name in regions):
        raise BadInput(f"a region has 1 to {NAME_CHARS} printable characters", "as the `region` of an [[upstream]]")
    if max(len(grant.models), len(grant.networks), len(regions)) > ENTRIES_MOST:
        raise BadInput(f"a token lists at most {ENTRIES_MOST} models, as many networks, and as many regions")
    if not 0 <= grant.requests_a_minute <= REQUESTS_MOST:
        raise BadInput(f"a token may ask 1 to {REQUESTS_MOST:,} times a minute")
    if not 0 <= grant.tokens_a_day <= TOKENS_A_DAY_MOST:
        raise BadInput(f"a token may use 1 to {TOKENS_A_DAY_MOST:,} model tokens a day")
    networks = tuple(sorted({_network(text) for text in grant.networks}))
    return replace(
        grant,
        verbs=tuple(sorted(set(grant.verbs))),
        models=tuple(sorted(set(grant.models))),
        networks=networks,
        regions=None if grant.regions is None else tuple(sorted(set(regions))),
    )


def words_of(grant: Grant) -> tuple[str, ...]:
    """Returns the limits of a token for people, nothing where it has none."""
    lists = (("verbs", grant.verbs), ("models", grant.models), ("networks", grant.networks))
    found = [f"{name} {', '.join(entries)}" for name, entries in lists if entries]
    if grant.requests_a_minute:
        found.append(f"{grant.requests_a_minute:,} requests a minute")
    if grant.tokens_a_day:
        found.append(f"{grant.tokens_a_day:,} tokens a day")
    if grant.regions is not None:
        found.append(f"regions {', '.join(grant.regions)}" if grant.regions else "no cloud")
    return tuple(found)


def verb_of(path: str) -> str:
    """Returns the verb of a path of the API, "" of any other, and of those where a token finds its own alone."""
    verb = path.removeprefix("/v1/").split("/")[0] if path.startswith("/v1/") else ""
    return "" if verb in _OWN else verb


def spends(verb: str) -> bool:
    """Says whether what answers to a verb uses tokens of a model."""
    return verb in _SPENDING


def comes_from(address: str, networks: Sequence[str]) -> bool:
    """Says whether an address is in one of the networks; one that is not readable is in none."""
    if not networks:
        return True
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    # A client that comes by IPv4 to a socket of both is written in IPv6 (RFC 4291 2.5.5.2).
    mapped = getattr(found, "ipv4_mapped", None)
    return any((mapped or found) in ipaddress.ip_network(network) for network in networks)


def after_request(full_at_s: float, now_s: float, a_minute: int) -> tuple[float, float]:
    """Counts a request (GCRA: a bucket of `a_minute` that fills evenly).

    Args:
        full_at_s: When the bucket is full again, from the call before; 0 at first.
        now_s: Monotonic seconds.
        a_minute: How many requests a minute; 0 is no limit.

    Returns:
        When it is full again, and how long to wait; what has to wait is not counted.
    """
    if not a_minute:
        return full_at_s, 0.0
    step_s = _MINUTE_S / a_minute
    full_s = max(full_at_s, now_s) + step_s
    wait_s = full_s - now_s - _MINUTE_S
    return (full_at_s, wait_s) if wait_s > 1e-6 else (full_s, 0.0)


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text.strip()))
    except ValueError:
        raise BadInput(
            f"{text!r} is no network", "write it as 10.1.0.0/16 or 10.1.2.3, without bits of a host"
        ) from None
