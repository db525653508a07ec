"""`doctor`: what this machine is, and what of Lifeboat's promises holds on it. Each finding has a way out.

What is examined lies beside this file: runtimes, hardware, state, network, confinement.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from appliance.host import outlook
from appliance.host.doctor_confinement import confinement
from appliance.host.doctor_hardware import disk, hardware
from appliance.host.doctor_network import egress_finding, port_finding, upstream_findings
from appliance.host.doctor_runtimes import runtimes
from appliance.host.doctor_state import cache_findings, image_findings, trust_findings, version_findings
from appliance.host.doctor_tls import tls_findings
from appliance.host.finding import BAD, WARN, Finding
from appliance.host.seal_findings import examine_memory_on_disk, examine_seal
from appliance.host.switching import is_served, own_url
from appliance.host.unit import UNIT_FILE, options_of
from appliance.store import versions
from appliance.store.layout import StateLayout
from appliance.store.seal import Seal
from appliance.store.secrets import Secrets
from bundler.format.errors import LifeboatError

PORT = 8443


@dataclass(frozen=True)
class Asked:
    """What an examination is to look at.

    Attributes:
        root: The state.
        now: The clock.
        port: The service's port, None for the one of its unit.
        online: Whether to ask the providers.
    """

    root: Path
    now: datetime
    port: int | None = None
    online: bool = False


def examine(asked: Asked) -> list[Finding]:
    """Runs every check; none changes anything."""
    root = asked.root.absolute()
    machine = [*runtimes(), *hardware(), *examine_memory_on_disk(), *disk(root)]
    if root.exists() and not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        closed = Finding("state", WARN, f"{root} is closed to this user: not examined", "run as its user or as root")
        return [*machine, closed]
    layout = StateLayout(root)
    unit = options_of(UNIT_FILE.read_text(encoding="utf-8")) if UNIT_FILE.exists() else {}
    told = unit.get("port", "")
    port = port_finding(layout, asked.port or (int(told) if told.isdecimal() else PORT))
    tls = tls_findings(own_url(layout), unit, asked.now)
    return [*machine, port, *tls, *confinement(layout), *_state(layout, asked)]


def _state(layout: StateLayout, asked: Asked) -> Iterator[Finding]:
    seal = Seal(layout.keys)
    if not seal.enrolled:
        yield Finding("site", WARN, "not enrolled", "lifeboat-appliance install MEDIUM")
        return
    yield from examine_seal(layout)
    yield from trust_findings(layout, asked.now)
    try:
        secrets = seal.open()
        version = versions.read_current(layout, secrets)
        bundle = versions.open_version(layout, secrets, version)
        keys = Secrets(seal).read()
    except LifeboatError as error:
        yield Finding("version", BAD, error.fact, error.hint or "install again from the medium")
        yield Finding(
            "models", WARN, "not examined: what they need of memory lies encrypted in the state", "see version"
        )
        return
    with bundle:
        yield from version_findings(layout, version, bundle)
        yield from cache_findings(layout)
        yield from image_findings(layout, bundle)
        yield egress_finding(version.egress)
        rungs = outlook.read(layout) if is_served(layout) else ()
        yield from upstream_findings(bundle.index.service, version.egress, keys, rungs, online=asked.online)
