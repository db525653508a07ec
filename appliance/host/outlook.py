"""What the rungs of the serving version said last, on the disk: for `check` and `doctor`, which have no token.

The reasons are our own words (`appliance.gateway.classify`); no text of a provider or a caller is among them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from appliance.gateway.classify import CREDENTIAL
from appliance.store.layout import StateLayout
from bundler.files import DISK, FileLayer, read_limited, write_atomic
from bundler.format import canonical
from bundler.format.errors import BadBundle, FileMissing
from bundler.format.record import from_json, to_json

_FILE_BYTES = 1 << 20
_LOOK_S = 2.0
_ASKED_AGAIN = "; asked again"
UPSTREAM = "upstream"


@dataclass(frozen=True)
class RungTold:
    """A rung as `/health/ready` shows it; `state` is ready, failing, loading, missing, failed, off or pinned."""

    rung: str
    kind: str
    state: str
    reason: str

    @property
    def lacks_key(self) -> bool:
        """Whether it is a provider that is not asked, or that does not accept our key, account or access."""
        if self.kind != UPSTREAM:
            return False
        return self.state == "off" or any(self.reason.startswith(words) for words in CREDENTIAL.values())


@dataclass(frozen=True)
class Outlook:
    """All rungs."""

    rungs: tuple[RungTold, ...]


def outlook(states: Iterable[tuple[str, str, str, str]]) -> Outlook:
    """Returns the rungs of (rung, kind, state, reason), without the seconds that change with every look. Pure."""
    found = (RungTold(rung, kind, state, why.split(_ASKED_AGAIN)[0]) for rung, kind, state, why in states)
    return Outlook(tuple(found))


async def keep_told(look: Callable[[], Outlook | None], layout: StateLayout) -> None:
    """Writes down how the rungs are, whenever that changes."""
    told: Outlook | None = None
    while True:
        found = look()
        if found is not None and found != told:
            with suppress(OSError):  # a full disk must not end the serving
                await asyncio.to_thread(write, layout, found)
                told = found
        await asyncio.sleep(_LOOK_S)


def write(layout: StateLayout, told: Outlook, layer: FileLayer = DISK) -> None:
    """Writes it for who looks from this machine; nothing in the folder outlives a boot."""
    write_atomic(layout.run / "rungs.json", canonical.encode(to_json(told)), mode=0o600, layer=layer)


def read(layout: StateLayout) -> Sequence[RungTold]:
    """Returns what was written last; nothing where nobody served, or where it cannot be read."""
    try:
        data = read_limited(layout.run / "rungs.json", _FILE_BYTES)
        return from_json(Outlook, canonical.decode(data, "rungs.json"), "outlook").rungs
    except (FileMissing, BadBundle):
        return ()
