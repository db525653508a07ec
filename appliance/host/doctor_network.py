"""What `doctor` says of the port that clients reach, and of the providers that the box may ask."""

from __future__ import annotations

import http.client
import os
import ssl
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from appliance.gateway.classify import CREDENTIAL
from appliance.gateway.origin import permitted
from appliance.host.finding import BAD, GOOD, WARN, Finding
from appliance.host.outlook import RungTold
from appliance.host.ports import holder_of
from appliance.host.switching import own_url
from appliance.settings import ENV
from appliance.store.layout import StateLayout
from bundler.format.service import Service, UpstreamSpec

_WAIT_S = 5.0


def port_finding(layout: StateLayout, port: int) -> Finding:
    """Says whether the service's port is free, ours, or whose."""
    if url := own_url(layout):
        return Finding("port", GOOD, f"this box serves at {url}")
    holder = holder_of(port)
    if holder is None:
        return Finding("port", GOOD, f"{port} is free; nothing serves this state")
    return Finding("port", BAD, f"{port} is taken by {holder}", "stop that program, or serve with another --port")


def egress_finding(egress: Sequence[str]) -> Finding:
    """Says to whom the signed policy lets the serving process talk."""
    told = ", ".join(egress) if egress else "nobody"
    return Finding("egress", GOOD, f"the signed policy lets this box talk to {told}")


def upstream_findings(
    service: Service, egress: Sequence[str], secrets: Mapping[str, str], rungs: Sequence[RungTold], *, online: bool
) -> Iterator[Finding]:
    """Examines each provider of a version.

    Args:
        service: The version's.
        egress: The origins that the policy allows.
        secrets: The box's own, by name.
        rungs: What the serving process said last; nothing where none serves.
        online: Whether to ask each provider now.
    """
    targets = {rung.name: rung.target for rung in service.ladder.rungs}
    for upstream in service.upstreams:
        told = next((rung for rung in rungs if targets.get(rung.rung) == upstream.name), None)
        yield _upstream(upstream, egress, key_of(upstream, secrets, os.environ), told, online=online)


def key_of(upstream: UpstreamSpec, secrets: Mapping[str, str], environ: Mapping[str, str]) -> str:
    """Returns a provider's key as this process sees it, "" where it has none."""
    if upstream.key.startswith(ENV):
        return environ.get(upstream.key.removeprefix(ENV), "").strip()
    return secrets.get(upstream.key, "").strip()


def _upstream(
    upstream: UpstreamSpec, egress: Sequence[str], key: str, told: RungTold | None, *, online: bool
) -> Finding:
    subject = f"provider {upstream.name}"
    if not permitted(upstream.base_url, egress):
        hint = "the MSP allows it with `lifeboat policy` or builds the bundle again, and ships a fresh medium"
        return Finding(subject, BAD, "never asked: its address is not on the egress list of the signed policy", hint)
    set_it = f"lifeboat-appliance secret set {upstream.key}"
    if upstream.key and not key and not (told is not None and told.state == "ready"):
        if upstream.key.startswith(ENV):
            set_it = "set it in the service's environment, or keep a sealed key: `secret set NAME`, key = NAME"
        return Finding(subject, WARN, f"not asked: its key {upstream.key} is not set here", set_it)
    if told is not None and told.lacks_key:
        hint = f"renew it: {set_it}" if upstream.key else "its profile names no `key`"
        return Finding(subject, WARN, told.reason, hint)
    if online:
        return _asked(upstream, key)
    kept = "its key is set" if upstream.key else "it needs no key"
    failing = f"; failing: {told.reason}" if told is not None and told.state == "failing" else ""
    return Finding(subject, WARN if failing else GOOD, f"{kept}; not asked now (--online asks){failing}")


def _asked(upstream: UpstreamSpec, key: str) -> Finding:
    """Asks for the list of models, which costs nothing; no redirects, no proxies."""
    subject = f"provider {upstream.name}"
    try:
        status = _status(upstream.base_url.rstrip("/") + "/models", key)
    except ssl.SSLError as error:
        return Finding(
            subject, WARN, f"its certificate is not trusted: {error.reason}", "see the clock and the CAs here"
        )
    except (OSError, http.client.HTTPException) as error:
        return Finding(subject, WARN, f"not reached: {error}", "see name service, routes and the firewall")
    if status in CREDENTIAL:
        hint = (
            f"renew it: lifeboat-appliance secret set {upstream.key}" if upstream.key else "name a key in the profile"
        )
        return Finding(subject, WARN, f"{CREDENTIAL[status]} ({status})", hint)
    return Finding(subject, GOOD if status < 500 else WARN, f"reached, it answers {status}")


def _status(address: str, key: str) -> int:
    url = urlsplit(address)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(str(url.hostname), url.port, timeout=_WAIT_S)
    try:
        connection.request("GET", url.path, headers={"Authorization": f"Bearer {key}"} if key else {})
        return connection.getresponse().status
    finally:
        connection.close()
