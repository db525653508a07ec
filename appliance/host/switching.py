"""Makes a version the serving one: what serves proves it and moves on; where nothing serves, one rename does it."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from appliance.store import current
from appliance.store.layout import StateLayout
from bundler.files import DISK, FileLayer, is_held, read_limited
from bundler.format.errors import BadBundle, Busy, SelftestFailed
from bundler.terminal import Terminal

_LOOK_S = 0.2
_URL, _URL_BYTES = re.compile(r"https?://[0-9A-Za-z.:\[\]-]+:[0-9]{1,5}"), 256


def is_served(layout: StateLayout) -> bool:
    """Whether a supervisor serves this state now."""
    return is_held(layout.serving)


def own_url(layout: StateLayout) -> str:
    """Returns where the supervisor that serves now is reached, "" where none serves or what it wrote is no URL.

    Root reads this and shows it, and the service may write here: neither a device nor another file may stand there.
    """
    try:
        text = read_limited(layout.run / "url", _URL_BYTES).decode(errors="replace").strip()
    except BadBundle:
        return ""
    return text if is_served(layout) and _URL.fullmatch(text) else ""


@dataclass(frozen=True)
class Switcher:
    """Switches one box.

    Attributes:
        layout: Its state.
        terminal: Where to say what is waited for.
        limit_s: How long the proof of a version may take.
        layer: Where faults can be put.
    """

    layout: StateLayout
    terminal: Terminal
    limit_s: float = 1800.0
    layer: FileLayer = DISK

    def switch(self, number: int) -> None:
        """Returns once a version serves, or is the one to serve.

        Raises:
            SelftestFailed: It was refused; what served goes on.
            Busy: Nothing was heard within `limit_s`.
        """
        if not is_served(self.layout):
            current.activate(self.layout, number, self.layer)
            return
        current.propose(self.layout, number, self.layer)
        self.terminal.note("the new version proves itself beside the one that serves")
        until = time.monotonic() + self.limit_s
        while current.current_number(self.layout) != number:
            refused = current.given_up(self.layout, number)
            if refused is not None:
                raise SelftestFailed(
                    f"version {number} is {refused.what}: {refused.reason}",
                    "the box keeps what it had; send this line to the builder",
                )
            if not is_served(self.layout):
                # Whoever served was stopped meanwhile. It was checked, and its documents proved themselves.
                current.activate(self.layout, number, self.layer)
                return
            if time.monotonic() > until:
                raise Busy(
                    f"what serves has not answered about version {number} for {self.limit_s / 60:.0f} minutes",
                    "it may still switch to it: see `lifeboat-appliance status`",
                )
            time.sleep(_LOOK_S)
