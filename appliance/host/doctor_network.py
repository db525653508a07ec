"""What `doctor` says of the port that clients reach, and of the providers that the box may ask."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from appliance.answer.off import switched_off
from appliance.gateway.classify import CREDENTIAL
from appliance.gateway.outcome import Failed, Kind
from appliance.gateway.probe import reachable
from appliance.gateway.trusted import PEM
from appliance.host.finding import BAD, GOOD, WARN, Finding
from appliance.host.outlook import RungTold
from appliance.host.ports import holder_of
from appliance.host.switching import own_url
from appliance.settings import ENV, Settings, read_cas
from appliance.store.layout import StateLayout
from bundler.format.service import Service, UpstreamSpec


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
        key = key_of(upstream, secrets, os.environ)
        settings = Settings(keys={upstream.name: key} if key else {}, cas=read_cas((upstream,), secrets))
        yield _upstream(upstream, egress, settings, told, online=online)


def key_of(upstream: UpstreamSpec, secrets: Mapping[str, str], environ: Mapping[str, str]) -> str:
    """Returns a provider's key as this process sees it, "" where it has none."""
    if upstream.key.startswith(ENV):
        return environ.get(upstream.key.removeprefix(ENV), "").strip()
    return secrets.get(upstream.key, "").strip()


def _upstream(
    upstream: UpstreamSpec, egress: Sequence[str], settings: Settings, told: RungTold | None, *, online: bool
) -> Finding:
    subject, key = f"provider {upstream.name}", settings.keys.get(upstream.name, "")
    if off := _off(upstream, egress, settings):
        return off
    set_it = f"lifeboat-appliance secret set {upstream.key}"
    if upstream.key and not key and not (told is not None and told.state == "ready"):
        if upstream.key.startswith(ENV):
            set_it = "set it in the service's environment, or keep a sealed key: `secret set NAME`, key = NAME"
        return Finding(subject, WARN, f"not asked: its key {upstream.key} is not set here", set_it)
    if told is not None and told.lacks_key:
        hint = f"renew it: {set_it}" if upstream.key else "its profile names no `key`"
        return Finding(subject, WARN, told.reason, hint)
    if online:
        return _asked(upstream, settings)
    kept = "its key is set" if upstream.key else "it needs no key"
    failing = f"; failing: {told.reason}" if told is not None and told.state == "failing" else ""
    return Finding(subject, WARN if failing else GOOD, f"{kept}; not asked now (--online asks){failing}")


def _off(upstream: UpstreamSpec, egress: Sequence[str], settings: Settings) -> Finding | None:
    """Why the gateway never asks it, but for want of a key: the service may see one that this process does not."""
    keyed = Settings(keys={upstream.name: "any"}, cas=settings.cas)
    for name, reason in switched_off((upstream,), keyed, egress):
        if "egress list" in reason:
            hint = "the MSP allows it with `lifeboat policy` or builds the bundle again, and ships a fresh medium"
            return Finding(f"provider {name}", BAD, f"never asked: {reason}", hint)
        ca = upstream.wire.ca
        hint = "the MSP mends the profile's `ca`" if PEM in ca else f"lifeboat-appliance secret set {ca} --file ca.pem"
        return Finding(f"provider {name}", WARN, f"not asked: {reason}", hint)
    return None


def _asked(upstream: UpstreamSpec, settings: Settings) -> Finding:
    """Asks for the list of models in the gateway's own way."""
    from appliance.host.provider_look import look  # the HTTP client may be missing, which `doctor` is to tell

    subject, proxy = f"provider {upstream.name}", upstream.wire.proxy
    through = f" through its proxy {proxy}" if proxy else ""
    try:
        status, beginning = look(upstream, settings)
    except Failed as failure:
        return Finding(subject, WARN, f"not reached{through}: {failure.detail}", _way_out(failure, upstream))
    if status in CREDENTIAL:
        hint = (
            f"renew it: lifeboat-appliance secret set {upstream.key}" if upstream.key else "name a key in the profile"
        )
        return Finding(subject, WARN, f"{CREDENTIAL[status]} ({status})", hint)
    answers = f"reached{through}, it answers {status}"
    if reachable(status, beginning) is None:
        hint = "a captive portal, a wrong `base_url`, or a provider without such a list: see what a request gets"
        return Finding(subject, WARN, f"{answers}, which is no list of models", hint)
    return Finding(subject, GOOD if status < 500 else WARN, f"{answers} (asked for its models, not for an answer)")


def _way_out(failure: Failed, upstream: UpstreamSpec) -> str:
    if failure.kind is Kind.NO_TRUST:
        if upstream.wire.ca:
            return "its certificate must be signed by its profile's `ca`, be for its name, and be in time"
        return "see the clock and the CAs of this machine; an authority of its own goes into the profile's `ca`"
    if failure.kind is Kind.NO_NAME:
        return "see name service, and the spelling of its `base_url`"
    return "see its proxy, and what that lets through" if upstream.wire.proxy else "see routes and the firewall"
