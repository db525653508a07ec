"""Pins a box: the file that what serves reads as soon as it changes."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from appliance.gateway import pin_file
from appliance.gateway.pin import AUTO, LOCAL, Pin, seconds_of
from appliance.store import versions
from appliance.store.layout import StateLayout
from appliance.store.seal import Seal
from bundler.format.errors import BadInput


def set_pin(root: Path, target: str, duration: str | None, now: datetime) -> Pin:
    """Pins a box, or ends its pin, and returns what holds.

    Args:
        root: The state.
        target: "local", a provider of the serving version, or "auto".
        duration: How long, needed for all but "auto".
        now: The time.

    Raises:
        BadInput: No such provider, or no duration.
        NotReady: Not enrolled, or nothing is installed.
    """
    layout = StateLayout(root)
    names = _providers(layout)
    if target not in (LOCAL, AUTO, *names):
        known = ", ".join((LOCAL, *names, AUTO))
        raise BadInput(f"this box has no provider {target!r}", f"it can be pinned to: {known}")
    if (duration is None) != (target == AUTO):
        raise BadInput(
            "a pin ends by itself: it needs a time, and `auto` needs none", f"lifeboat-appliance pin {target} --for 2h"
        )
    made = Pin() if duration is None else Pin(target, int(now.timestamp()), seconds_of(duration))
    pin_file.write(layout.pin, made)
    return made


def _providers(layout: StateLayout) -> tuple[str, ...]:
    secrets = Seal(layout.keys).open()
    with versions.open_version(layout, secrets, versions.read_current(layout, secrets)) as bundle:
        return tuple(upstream.name for upstream in bundle.index.service.upstreams)
