"""Takes the serving version back by hand."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from appliance.store import current, versions
from appliance.store.current import GivenUp
from appliance.store.layout import StateLayout
from appliance.store.seal import Seal
from bundler.files import DISK, FileLayer, exclusive


def roll_back(root: Path, reason: str, now: datetime, layer: FileLayer = DISK) -> int:
    """Returns to the version before the serving one; whoever serves follows within a second.

    Raises:
        NotReady: Nothing is installed, or there is no version to return to.
        BadBundle: That version was changed on this disk; the serving one stays.
        Busy: An install runs.
    """
    layout = StateLayout(root)
    secrets = Seal(layout.keys).open()
    layout.make()
    with exclusive(layout.run / "install.lock", "an install is running on this box"):
        number = versions.read_current(layout, secrets).number
        before = current.previous(layout, number)
        if before is not None:
            versions.open_version(layout, secrets, versions.read_version(layout, secrets, before)).close()
        why = GivenUp("taken back", reason, now.isoformat(timespec="seconds"))
        return current.roll_back(layout, why, layer)
