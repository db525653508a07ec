"""A repository with two sites, a registry with a front before it, and pushes and pulls between them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bundler.files import DISK, FileLayer
from bundler.format.limits import MIB
from bundler.format.service import LadderSpec, LimitsSpec, Service
from bundler.patience import Patience
from bundler.registries.logins import Login
from bundler.registries.reference import parse
from bundler.registries.wire import Wire
from bundler.repository.keyring import Keyring
from bundler.repository.oci.client import Client
from bundler.repository.oci.layers import Parts
from bundler.repository.oci.pull import Pulled, pull
from bundler.repository.oci.push import How, Pushed, push
from bundler.repository.publish import Publisher
from bundler.repository.sites import add_site
from bundler.repository.survey import Captured
from bundler.repository.write import BundleWriter
from bundler.terminal import Terminal

NOW, QUICK, KB = datetime(2026, 11, 21, 12, tzinfo=UTC), 10, 1_000
SERVICE = Service(
    "demo", "Demo", (), None, (), (), (), (), LadderSpec((), (), (), "", "", ""), LimitsSpec(1, 1, 1), None, ()
)
QUIET = Terminal(json_output=True)


@dataclass
class Stock:
    """A repository with the sites bristol and paris, and bundles of a model of 5 MB and an FAQ."""

    publisher: Publisher
    keyring: Keyring
    work: Path
    pauses: list[float] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.writer = BundleWriter(self.publisher, self.keyring, QUIET, 2500 * KB)
        for site in ("bristol", "paris"):
            add_site(self.publisher, self.keyring, self.publisher.policy().repository, site, work_factor_log2=QUICK)

    @property
    def repository(self) -> str:
        return self.publisher.policy().repository

    def build(self, faq: bytes) -> str:
        """Writes a bundle with this FAQ; the model stays the same."""
        (self.work / "model").write_bytes(random.Random(1).randbytes(5000 * KB))
        (self.work / "faq").write_bytes(faq)
        files = tuple(Captured(n, self.work / n, "gguf", "", f"file:{n}", (), 16 * KB) for n in ("model", "faq"))
        return self.writer.write("demo", files, SERVICE, NOW).descriptor.bundle

    def client(self, where: str, login: Login | None = None) -> Client:
        """Speaks to `HOST/NAME:TAG`; it counts its pauses and does not make them."""
        reference = parse(f"oci:{where}")
        scopes = (f"repository:{reference.name}:pull,push",)
        patience = Patience(tries=3, sleep=self.pauses.append, told=self.told.append)
        return Client(reference, Wire(reference.origin, login, scopes), patience)

    def push(self, where: str, *sites: str, cap: int = MIB, mount_from: str = "", login: Login | None = None) -> Pushed:
        how = How(Parts(self.work / "layers", cap), mount_from)
        with closing(self.client(where, login)) as client:
            return push(self.publisher, sites or ("bristol",), client, QUIET, now=NOW, how=how)

    def pull(
        self,
        where: str,
        medium: Path,
        *,
        sites: tuple[str, ...] = (),
        layer: FileLayer = DISK,
        trusting: bool = True,
        now: datetime = NOW,
    ) -> Pulled:
        root = self.publisher.first_root() if trusting else None
        with closing(self.client(where)) as client:
            return pull(client, medium, QUIET, root=root, now=now, sites=sites, layer=layer)


@pytest.fixture
def stock(tmp_path: Path, publisher: Publisher, keyring: Keyring) -> Stock:
    (tmp_path / "work").mkdir()
    return Stock(publisher, keyring, tmp_path / "work")


@pytest.fixture
def front(registry: Any) -> Any:
    """A front of its own before the registry: what passes is counted."""
    return registry.front()


@pytest.fixture
def parts(load_script: Callable[[str], Any]) -> Any:
    """`Answer` and `Cut`, for faults of the front."""
    return load_script("registry_front")


@pytest.fixture
def files() -> Callable[[Path], dict[str, bytes]]:
    """Reads every file under a folder but hidden ones."""

    def read(folder: Path) -> dict[str, bytes]:
        def names() -> Iterator[Path]:
            for path in folder.rglob("*"):
                if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
                    yield path

        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in names()}

    return read
