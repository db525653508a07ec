"""`[[upstream]]`: a provider's endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from bundler.format.service import ABILITIES, ANTHROPIC, OPENAI, UPSTREAM_KINDS, UpstreamSpec
from bundler.format.trust.policy import origin
from bundler.profile.routes import read_languages
from bundler.profile.table import Table
from bundler.profile.wire import read_wire


def read_upstream(table: Table, base: Path) -> UpstreamSpec:
    """Reads one `[[upstream]]`.

    Args:
        table: Its table.
        base: The profile's folder.
    """
    spec = UpstreamSpec(
        name=table.name(),
        base_url=table.text("base_url"),
        model=table.text("model"),
        key=table.text("key", ""),
        region=table.text("region", ""),
        connect_timeout_ms=table.integer("connect_timeout_ms", 2_000, 100, 60_000),
        first_token_timeout_ms=table.integer("first_token_timeout_ms", 10_000, 100, 600_000),
        stall_timeout_ms=table.integer("stall_timeout_ms", 15_000, 100, 600_000),
        context_tokens=table.integer("context_tokens", 1024, 256, 100_000_000) if table.has("context_tokens") else 0,
        can=_abilities(table) if table.has("can") else None,
        languages=read_languages(table),
        continues=table.flag("continues"),
        kind=table.choice("kind", UPSTREAM_KINDS, OPENAI),
        wire=read_wire(table, base),
    )
    if spec.kind == ANTHROPIC and spec.continues:
        table.issue("continues is true, and the Messages API goes on with no answer that has begun")
    for problem in _address_issues(spec.base_url):
        table.issue(problem)
    table.close()
    return spec


def _abilities(table: Table) -> tuple[str, ...]:
    can = table.texts("can")
    for word in can:
        if word not in ABILITIES:
            table.issue(f"can names {word!r}, expected of {', '.join(ABILITIES)}")
    return can


def _address_issues(base_url: str) -> list[str]:
    try:
        parts = urlsplit(base_url)
    except ValueError as error:
        return [f"base_url {base_url!r} is no URL: {error}"]
    loopback = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and loopback):
        return [f"base_url {base_url!r} must be https (http is for loopback only)"]
    if parts.query or parts.fragment or "@" in parts.netloc:
        return [f"base_url {base_url!r} may not hold a query, a fragment or a user"]
    try:
        origin(base_url)  # what the policy will allow boxes to talk to
    except ValueError as error:
        return [f"base_url {error}"]
    return []


def addressed(specs: list[UpstreamSpec], addresses: Mapping[str, str], issues: list[str]) -> tuple[UpstreamSpec, ...]:
    """Returns the upstreams at the addresses that a command names for them."""
    names = [spec.name for spec in specs]
    issues += [f"--upstream {name}: the profile has no such upstream" for name in addresses if name not in names]
    issues += [f"--upstream {name}: {issue}" for name, url in addresses.items() for issue in _address_issues(url)]
    return tuple(replace(spec, base_url=addresses.get(spec.name, spec.base_url)) for spec in specs)
