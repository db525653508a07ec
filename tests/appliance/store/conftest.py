"""A small customer made in this process: a repository with one site, and a box that installs from it.

Images for it are made by hand, and the engines that take them are the real ones, each with a store of its own.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO

import pytest

from appliance.host.container_engine import Engine, find_engine
from appliance.store import current, versions
from appliance.store.enrol import Enroller
from appliance.store.install import Installer, InstallReport
from appliance.store.layout import StateLayout
from appliance.store.proof import Proof
from appliance.store.seal import Seal
from bundler.capture.images import capture_image, image_spec
from bundler.files import open_regular
from bundler.format.bundle import Bundle, check_chunks
from bundler.format.oci import Descriptor, machine_platform
from bundler.format.service import LadderSpec, LimitsSpec, Service
from bundler.format.site import make_code
from bundler.repository.keyring import Keyring, Msp
from bundler.repository.publish import Publisher
from bundler.repository.roots import Roots, first_root
from bundler.repository.sites import add_site
from bundler.repository.survey import Captured
from bundler.repository.write import BundleWriter
from bundler.sources.blobs import Blobs
from bundler.sources.layout import Layout
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


HERE = machine_platform(os.uname().machine)
OCI, DOCKER = "application/vnd.oci.image", "application/vnd.docker"
TYPES = {
    False: (f"{OCI}.manifest.v1+json", f"{OCI}.config.v1+json", f"{OCI}.layer.v1.tar+gzip"),
    True: (
        f"{DOCKER}.distribution.manifest.v2+json",
        f"{DOCKER}.container.image.v1+json",
        f"{DOCKER}.image.rootfs.diff.tar.gzip",
    ),
}


@dataclass(frozen=True)
class Made:
    """An image made by hand: its layout, and the digest of its config, which is its id in every engine."""

    layout: Layout
    config: str

    def reference(self, name: str) -> str:
        return f"localhost/lifeboat/{name}:{self.layout.top.hex[:12]}"


@pytest.fixture
def make(tmp_path: Path, load_script: Any) -> Callable[..., Made]:
    """Makes an image of one file, for this machine or another."""
    oci, blobs = load_script("oci_images"), Blobs(tmp_path / "blobs")

    def made(text: str, platform: str = HERE, *, docker: bool = False, filler: bytes = b"", level: int = 9) -> Made:
        manifest_type, config_type, layer_type = TYPES[docker]
        plain = oci.tar_of({"hello": text.encode(), **({"filler": filler} if filler else {})})
        packed, (system, machine) = gzip.compress(plain, level, mtime=0), platform.split("/")[:2]
        told = {"os": system, "architecture": machine, "config": {}}
        config = json.dumps(told | {"rootfs": {"type": "layers", "diff_ids": [oci.digest_of(plain)]}}).encode()
        kept: list[dict[str, Any]]
        kept = [{"digest": blobs.keep(data), "size": len(data)} for data in (config, packed)]
        parts = {"config": kept[0] | {"mediaType": config_type}, "layers": [kept[1] | {"mediaType": layer_type}]}
        data = json.dumps({"schemaVersion": 2, "mediaType": manifest_type, **parts}).encode()
        digest = blobs.keep(data)
        top = Descriptor(manifest_type, digest, len(data))
        layout = Layout(top, platform, (digest, *(part["digest"] for part in kept)), (), blobs)
        return Made(layout, kept[0]["digest"].removeprefix("sha256:"))

    return made


@pytest.fixture
def box(customer: Any, tmp_path: Path) -> Callable[..., Any]:
    """Builds and installs a bundle with images by name; returns the box's state."""

    def installed(**made: Made) -> Any:
        work = tmp_path / "work"
        captured = [
            file for name, one in made.items() for file in capture_image(name, one.layout, "registry:x", "", work)
        ]
        service = replace(SERVICE, images=tuple(image_spec(name, one.layout) for name, one in made.items()))
        BundleWriter(customer.publisher, customer.ring, Terminal(quiet=True), 40_000).write(
            "s", tuple(captured), service, NOW
        )
        customer.install()
        return customer.layout

    return installed


@dataclass(frozen=True)
class Counting(Engine):
    """The real engine, with a list of what it loaded."""

    loads: list[str] = field(default_factory=list)

    def load(self, write: Callable[[IO[bytes]], None]) -> None:
        self.loads.append("load")
        super().load(write)


@pytest.fixture
def podman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Counting:
    """The real podman, with a store of its own."""
    program = shutil.which("podman")
    if program is None:
        pytest.skip("apt-get install podman")
    store = f'[storage]\ndriver = "vfs"\nrunroot = "{tmp_path}/run"\ngraphroot = "{tmp_path}/graph"\n'
    (tmp_path / "storage.conf").write_text(store)
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(tmp_path / "storage.conf"))
    if subprocess.run([program, "images"], capture_output=True, timeout=60, check=False).returncode:
        pytest.skip("podman has no store here")
    return Counting("podman", (program,))


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[Counting]:
    """The real docker, with a daemon of its own."""
    if not (shutil.which("dockerd") and shutil.which("docker")) or os.geteuid():
        pytest.skip("dockerd is not installed, or this is not root: apt-get install docker.io")
    listens = tmp_path / "d.sock"
    words = ["--data-root", tmp_path / "data", "--exec-root", tmp_path / "exec", "--pidfile", tmp_path / "pid"]
    words += ["--host", f"unix://{listens}", "--iptables=false", "--bridge=none", "--storage-driver", "vfs"]
    with (tmp_path / "dockerd.log").open("wb") as log:
        process = subprocess.Popen(["dockerd", *map(str, words)], stdout=log, stderr=log)
    try:
        until = time.monotonic() + 30
        while not _listens(listens):
            if process.poll() is not None or time.monotonic() > until:
                pytest.skip("dockerd does not start here")
            time.sleep(0.2)
        yield Counting("docker", find_engine("docker", [listens]).words)
    finally:
        process.terminate()
        process.wait(30)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as asked:
        return asked.connect_ex(str(path)) == 0
