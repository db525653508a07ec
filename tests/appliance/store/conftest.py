"""A small customer made in this process: a repository with one site, and a box that installs from it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from appliance.store import current, versions
from appliance.store.enrol import Enroller
from appliance.store.install import Installer, InstallReport
from appliance.store.layout import StateLayout
from appliance.store.proof import Proof
from appliance.store.seal import Seal
from bundler.files import open_regular
from bundler.format.bundle import Bundle, check_chunks
from bundler.format.service import LadderSpec, LimitsSpec, Service
from bundler.format.site import make_code
from bundler.repository.keyring import Keyring, Msp
from bundler.repository.publish import Publisher
from bundler.repository.roots import Roots, first_root
from bundler.repository.sites import add_site
from bundler.repository.survey import Captured
from bundler.repository.write import BundleWriter
from bundler.terminal import Terminal

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
QUICK, KB = 10, 1_000
GOOD = Proof(passed=True, lines=("faq: 1 of 1",), model_tested=True)
SERVICE = Service("s", "S", (), None, (), (), (), (), LadderSpec((), (), (), "", "", ""), LimitsSpec(1, 1, 1), None, ())


def fixed(count: int) -> bytes:
    return (bytes(range(10)) * count)[:count]


@dataclass
class Customer:
    """The repository, which is also the medium, and one box; `opened` lists what was read of the medium's files."""

    root: Path
    opened: list[str] = field(default_factory=list)
    good: Proof = GOOD

    @property
    def medium(self) -> Path:
        return self.root / "repository"

    @property
    def layout(self) -> StateLayout:
        return StateLayout(self.root / "state")

    @property
    def ring(self) -> Keyring:
        return Keyring(self.root / "home", lambda: "quick")

    @property
    def publisher(self) -> Publisher:
        return Publisher(self.medium, self.ring, NOW)

    def make(self) -> None:
        self.ring.create(Msp("Northquay", "ab" * 16), QUICK)
        Roots(self.ring.home).add(first_root(self.ring, NOW), NOW)
        publisher = self.publisher
        identifier = publisher.create().repository
        add_site(publisher, self.ring, identifier, "bristol", random=fixed, work_factor_log2=QUICK)

    def build(self, faq: bytes) -> str:
        """Builds a bundle of a model that stays and an FAQ that changes, in volumes of 40 kB; returns its id."""
        captured = []
        for name, data in {"model": random.Random(1).randbytes(90 * KB), "faq": faq}.items():
            (self.root / name).write_bytes(data)
            captured.append(Captured(name, self.root / name, "gguf", "", f"file:{name}", (), 16 * KB))
        BundleWriter(self.publisher, self.ring, Terminal(quiet=True), 40 * KB).write("s", tuple(captured), SERVICE, NOW)
        return max(path.name for path in (self.medium / "bundles").iterdir())

    def revoke(self, bundle: str) -> None:
        publisher = self.publisher
        publisher.change_policy(replace(publisher.policy(), revoked=(bundle,)))

    def allow(self, *egress: str) -> None:
        self.publisher.allow(egress)

    def volumes(self, folder: Path) -> list[str]:
        """The volumes under a repository, as the medium orders them."""
        return sorted(path.relative_to(folder).as_posix() for path in folder.glob("bundles/*/vol/*.age"))

    def open_file(self, path: Path) -> BinaryIO:
        self.opened.append(path.relative_to(self.medium).as_posix())
        return open_regular(path)

    def install(self, prove: Callable[[Bundle], Proof] = lambda _: GOOD, **options: Any) -> InstallReport:
        """Installs the newest bundle of the medium; `opened` then lists what this run read."""
        self.opened.clear()
        enroller = Enroller("bristol", lambda: make_code(fixed(10)))
        options = {"open_file": self.open_file, "terminal": Terminal(quiet=True), **options}
        installer = Installer(self.layout, enroller, prove, partial(current.activate, self.layout), **options)
        return installer.install(self.medium, NOW + timedelta(hours=1))

    def serving(self) -> str:
        """Returns the bundle that serves, once every chunk of it is as it was signed."""
        secrets = Seal(self.layout.keys).open()
        version = versions.read_current(self.layout, secrets)
        with versions.open_version(self.layout, secrets, version) as bundle:
            check_chunks(bundle, lambda _: None)
        return version.bundle


@pytest.fixture
def customer(tmp_path: Path) -> Customer:
    made = Customer(tmp_path)
    made.make()
    return made
