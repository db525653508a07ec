"""The serving process's settings: read once at start, frozen after. Nothing else reads the environment."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bundler.format.errors import BadInput
from bundler.format.service import Service, UpstreamSpec

ENV = "env:"


@dataclass(frozen=True)
class Settings:
    """What is set at start.

    Args:
        hosts: Names by which clients reach the box, beside loopback and IP addresses.
        keys: API keys by upstream name; an upstream that wants one and has none is skipped with that reason.
        cas: Certificates as PEM by upstream name, where its authority is a secret of this box.
        ca_pem: The box CA's certificate, served at `/ca.crt`; b"" where TLS is off.
        knowledge_threads: Blocking calls (embedding, search) at once.
        open_s: How long an upstream is left alone at first, once its breaker has opened and where no probes run.
        open_longest_s: The longest that it is, where it does not come back.
        look_s: Where probes run: the least time between two looks at an upstream that is left alone.
        probe_s: Time between two unbilled probes of an upstream that is left alone; 0 for no probes.
        probes_daily: How many billed probes an upstream gets in a day.
        kept: Where the gateway keeps what is to outlive the process, or None.
        pin: The file of the pin, or None.
        secret: Keys the fingerprints of API keys; nothing is remembered over a restart without one of the box's own.
        credential: Opens a credential of a profile (`env:NAME`, or a secret of the box) as it is now; "" is none.
        headers_wait_s: How long the headers of a stream wait for its commit.
        keepalive_s: Time between comments on a stream that has not begun.
        body_wait_s: Limit for a client to send its request.
    """

    hosts: tuple[str, ...] = ()
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    cas: Mapping[str, str] = field(default_factory=dict)
    ca_pem: bytes = b""
    knowledge_threads: int = 2
    open_s: float = 5.0
    open_longest_s: float = 20.0
    look_s: float = 13.0
    probe_s: float = 5.0
    probes_daily: int = 100
    kept: Path | None = None
    pin: Path | None = None
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    credential: Callable[[str], str] = field(default=lambda _: "", repr=False)
    headers_wait_s: float = 10.0
    keepalive_s: float = 5.0
    body_wait_s: float = 30.0


def read_keys(service: Service, opened: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Returns the API key of each upstream that has one.

    Args:
        service: The profile as the box sees it.
        opened: The box's secrets, by name.
        environ: The environment of the process.

    Raises:
        BadInput: A key holds characters that an HTTP header cannot carry.
    """
    found = ((upstream.name, _key(upstream, opened, environ)) for upstream in service.upstreams)
    keys = {name: key for name, key in found if key}
    for name, key in keys.items():
        if not key.isascii() or not key.isprintable():
            raise BadInput(f"the key of upstream {name} holds characters that no HTTP header carries")
    return keys


def _key(upstream: UpstreamSpec, opened: Mapping[str, str], environ: Mapping[str, str]) -> str:
    return credential_of(upstream.key, opened, environ)


def credential_of(named: str, opened: Mapping[str, str], environ: Mapping[str, str] = os.environ) -> str:
    """Returns what a profile calls `env:NAME` or by the name of a secret; "" where there is none."""
    if named.startswith(ENV):
        return environ.get(named.removeprefix(ENV), "").strip()
    return opened.get(named, "").strip()


def read_cas(upstreams: Iterable[UpstreamSpec], secrets: Mapping[str, str]) -> dict[str, str]:
    """Returns the certificates of each upstream whose authority is a secret of the box."""
    return {upstream.name: secrets[ca] for upstream in upstreams if (ca := upstream.wire.ca) in secrets}
