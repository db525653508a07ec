"""What this box is, from its state alone: it needs no running server."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from appliance.store import versions
from appliance.store.layout import StateLayout
from appliance.store.seal import SLOT_WARNING, Seal


@dataclass(frozen=True)
class Status:
    """The serving version and what to know about it; `age_days` counts from the making of the bundle."""

    site: str
    version: int
    bundle: str
    made: str
    installed: str
    age_days: int
    selftest: tuple[str, ...]
    model_tested: bool
    comes_back_alone: str
    warnings: tuple[str, ...]

    def lines(self) -> list[str]:
        return [
            f"site {self.site}: version {self.version}, bundle {self.bundle}, made {self.age_days} days ago",
            *(f"  {line}" for line in self.selftest),
            self.comes_back_alone,
        ]


def read_status(root: Path, now: datetime) -> Status:
    """Reads the state.

    Raises:
        NotReady: Not enrolled, or nothing installed.
        BadBundle: Somebody changed the state.
    """
    layout = StateLayout(root)
    secrets = Seal(layout.keys).open()
    version = versions.read_current(layout, secrets)
    warnings = [SLOT_WARNING]
    if not version.model_tested:
        warnings.append("the local model was not tested when this version was installed")
    return Status(
        site=secrets.site,
        version=version.number,
        bundle=version.bundle,
        made=version.made,
        installed=version.installed,
        age_days=(now - datetime.fromisoformat(version.made)).days,
        selftest=version.selftest,
        model_tested=version.model_tested,
        comes_back_alone="after a power cut it can start with nobody present: the key file is on this disk",
        warnings=tuple(warnings),
    )
