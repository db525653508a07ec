"""A customer's sites in the simulated year: a medium that is new each time, and a box that installs from it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from appliance.store.proof import Proof
    from bundler.format.bundle import Bundle
    from bundler.repository.keyring import Keyring
    from bundler.repository.publish import Publisher

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Shipped:
    """One delivery: bytes of volumes, and of everything else on the medium (index, keys, metadata)."""

    volume_bytes: int
    other_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.volume_bytes + self.other_bytes


@dataclass
class Site:
    """A site with its box; `deliveries` by week, and the volumes that any medium ever brought.

    Attributes:
        name: Its id.
        code: On its card.
        folder: Where its box's state lies.
    """

    name: str
    code: str
    folder: Path
    deliveries: dict[int, Shipped] = field(default_factory=dict)
    brought: list[str] = field(default_factory=list)

    def deliver(self, week: int, publisher: Publisher, keyring: Keyring, now: datetime) -> Shipped:
        """Copies to an empty medium and installs from it with the store of the appliance.

        Raises:
            BadBundle, FileMissing: The box lacks what the copy left out, or a byte is wrong.
        """
        from bundler.repository.copy import copy_for_sites
        from bundler.terminal import Terminal

        medium = self.folder / "medium"
        shutil.rmtree(medium, ignore_errors=True)
        copy_for_sites(publisher, keyring, [self.name], medium, Terminal(quiet=True), now=now)
        files = [path for path in medium.rglob("*") if path.is_file()]
        volumes = [path for path in files if path.parent.name == "vol"]
        self.brought += [path.relative_to(medium).as_posix() for path in volumes]
        volume_bytes = sum(path.stat().st_size for path in volumes)
        self.deliveries[week] = Shipped(volume_bytes, sum(path.stat().st_size for path in files) - volume_bytes)
        self.install(medium, now)
        return self.deliveries[week]

    def install(self, medium: Path, now: datetime) -> None:
        """Installs as `lifeboat-appliance install` does; the proof is that every chunk opens and is as signed."""
        from appliance.store import current
        from appliance.store.enrol import Enroller
        from appliance.store.install import Installer
        from appliance.store.layout import StateLayout
        from bundler.terminal import Terminal

        layout = StateLayout(self.folder / "state")
        enroller, switch = Enroller(self.name, lambda: self.code), partial(current.activate, layout)
        Installer(layout, enroller, _whole, switch, Terminal(quiet=True)).install(medium, now)

    def new_box(self, publisher: Publisher, keyring: Keyring, now: datetime) -> str:
        """Installs a whole copy on a new box with the program itself, models and self-test included; returns its word.

        Raises:
            RuntimeError: The program refused it.
        """
        from bundler.repository.copy import copy_for_sites
        from bundler.terminal import Terminal

        place, code = self.folder / "new", self.folder / "code"
        shutil.rmtree(place, ignore_errors=True)
        medium = place / "medium"
        copy_for_sites(publisher, keyring, [self.name], medium, Terminal(quiet=True), now=now, full=True)
        code.write_text(f"{self.code}\n")
        words = ["install", medium, "--state", place / "state", "--site", self.name, "--site-code-file", code]
        command = [sys.executable, "-m", "appliance", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"a new box refuses: {done.stderr}")
        return done.stdout.splitlines()[0]

    @property
    def twice(self) -> list[str]:
        """Volumes that came on more than one medium."""
        return sorted({path for path in self.brought if self.brought.count(path) > 1})


def _whole(bundle: Bundle) -> Proof:
    from appliance.store.proof import Proof
    from bundler.format.bundle import check_chunks

    checked = check_chunks(bundle, lambda _: None)
    return Proof(passed=checked > 0, lines=(f"{checked} bytes",), model_tested=False)
