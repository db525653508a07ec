"""Software in a repository: signed by the release key alone, whole or not listed, carried on by jobs without it."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bundler import inspection
from bundler.capture.runtime import Runtime, read_wheelhouse
from bundler.files import DISK, FileLayer
from bundler.format.errors import BadBundle, BadInput, NotReady
from bundler.format.service import LadderSpec, LimitsSpec, Service
from bundler.format.software import programs
from bundler.format.trust.medium import load_repository
from bundler.format.trust.verify import TargetFile, TrustedRepository
from bundler.repository import signing
from bundler.repository.copy import copy_for_sites
from bundler.repository.keyring import Keyring
from bundler.repository.publish import Publisher
from bundler.repository.roots import Roots
from bundler.repository.rotation import publish_merged
from bundler.repository.sites import add_site
from bundler.repository.software import Shipped, add_runtime, carried, installer_sha256, withdraw_runtime
from bundler.repository.survey import Captured
from bundler.repository.write import BundleWriter
from bundler.terminal import Terminal

NOW, QUICK = datetime(2026, 11, 21, 12, tzinfo=UTC), 10
QUIET = Terminal(quiet=True, json_output=True)
SERVICE = Service(
    "demo", "Demo", (), None, (), (), (), (), LadderSpec((), (), (), "", "", ""), LimitsSpec(1, 1, 1), None, ()
)


class Stopped(Exception):
    """The builder was stopped here."""


@pytest.fixture
def runtime(tmp_path: Path, make_house: Callable[[Path, str], Path]) -> Callable[[str], Runtime]:
    def make(version: str) -> Runtime:
        return read_wheelhouse(make_house(tmp_path / f"house-{version}", version))

    return make


@pytest.fixture
def ship(publisher: Publisher, keyring: Keyring, runtime: Callable[[str], Runtime]) -> Callable[..., Shipped]:
    def add(version: str, layer: FileLayer = DISK, request: Path | None = None) -> Shipped:
        made = runtime(version)
        with publisher.locked():
            return add_runtime(publisher, made, keyring, Roots(keyring.home), request, layer)

    return add


def trusted(folder: Path, publisher: Publisher) -> TrustedRepository:
    return load_repository(folder, root=publisher.first_root(), repository=None, now=NOW, remembered=None)


def whole(publisher: Publisher) -> tuple[str, ...]:
    """Checks every signed file as a courier does; returns the programs."""
    return inspection.verify(publisher.folder, None, None, NOW, QUIET).software


def installer(publisher: Publisher) -> str:
    return hashlib.sha256((publisher.folder / "install.sh").read_bytes()).hexdigest()


def test_a_program_is_listed_with_its_installer(publisher: Publisher, ship: Callable[..., Shipped]) -> None:
    """Every wheel is a target of the release role, and `install.sh` lies at the top."""
    done = ship("0.2.0")
    assert (done.version, done.dropped) == ("0.2.0", ())
    assert whole(publisher) == ("0.2.0",)
    assert installer(publisher) == installer_sha256(publisher.trusted())
    (found,) = carried(publisher.trusted())
    assert (found.version, found.wheels) == ("0.2.0", 7)


def test_the_same_program_again_signs_nothing(publisher: Publisher, ship: Callable[..., Shipped]) -> None:
    """No metadata moves."""
    ship("0.2.0")
    before = publisher.trusted().remembered()
    assert ship("0.2.0").taken is None
    assert publisher.trusted().remembered() == before


def test_a_version_never_means_two_programs(
    publisher: Publisher, ship: Callable[..., Shipped], tmp_path: Path, make_wheel: Callable[..., Path]
) -> None:
    """The file that differs is named, and nothing of it is listed or placed."""
    ship("0.2.0")
    make_wheel(tmp_path / "house-0.2.0", "h11-0.1-py3-none-any", files={"h11/new.py": b""})
    other = read_wheelhouse(tmp_path / "house-0.2.0")
    with pytest.raises(BadInput, match=r"listed with other files: h11-0\.1.*install\.sh"):
        add_runtime(publisher, other, Keyring(tmp_path / "home", str), Roots(tmp_path / "home"), None, DISK)
    assert whole(publisher) == ("0.2.0",)


def test_the_newest_two_are_kept(publisher: Publisher, ship: Callable[..., Shipped]) -> None:
    """By their order as versions; the installer is that of the newest, whatever came last."""
    for version in ("0.9.0", "0.10.0", "0.9.5"):
        done = ship(version)
    assert done.dropped == ("0.9.0",)
    assert whole(publisher) == ("0.9.5", "0.10.0")
    assert sorted(path.name for path in (publisher.folder / "runtime").iterdir()) == ["0.10.0", "0.9.5"]
    script = (publisher.folder / "install.sh").read_text()
    assert "Installs Lifeboat 0.10.0" in script
    with pytest.raises(BadInput, match=r"are newer than 0\.8"):
        ship("0.8.0")


def test_a_withdrawn_program_is_given_no_more(
    publisher: Publisher, keyring: Keyring, ship: Callable[..., Shipped]
) -> None:
    """The one before is the newest again, and its installer the one at the top; without any there is none."""
    ship("0.1.0")
    ship("0.2.0")
    for version, left in (("0.2.0", ("0.1.0",)), ("0.1.0", ())):
        with publisher.locked():
            withdraw_runtime(publisher, version, keyring, Roots(keyring.home), None)
        assert whole(publisher) == left
        assert (publisher.folder / "install.sh").exists() == bool(left)
    with pytest.raises(BadInput, match="lists no program"):
        withdraw_runtime(publisher, "0.2.0", keyring, Roots(keyring.home), None)


def test_a_job_without_the_release_key_carries_what_was_signed(
    publisher: Publisher, keyring: Keyring, ship: Callable[..., Shipped]
) -> None:
    """It signs content over it, and can list no program itself."""
    ship("0.1.0")
    (keyring.folder / "release.key").rename(keyring.home / "release.key")
    (keyring.folder / "root.key").rename(keyring.home / "root.key")
    publisher.resign()
    assert whole(publisher) == ("0.1.0",)
    with pytest.raises(NotReady, match="0 of 1 release signatures"):
        ship("0.2.0")
    assert programs(publisher.trusted().targets).keys() == {"0.1.0"}


def test_a_release_key_that_lies_elsewhere_signs_by_file(
    publisher: Publisher, keyring: Keyring, ship: Callable[..., Shipped], tmp_path: Path
) -> None:
    """The request shows every file; once it is merged, the installer lies at the top."""
    request = tmp_path / "request.json"
    release = keyring.folder / "release.key"
    release.rename(tmp_path / "release.key")
    assert ship("0.2.0", request=request).taken is not None
    assert whole(publisher) == ()
    (tmp_path / "release.key").rename(release)
    metadata = signing.read_request(request)
    told = signing.describe(metadata, Roots(keyring.home))
    assert any("software: runtime/0.2.0/h11-0.1" in line for line in told)
    signing.sign(metadata, keyring, Roots(keyring.home))
    publish_merged(metadata, keyring, publisher.folder, NOW)
    assert whole(publisher) == ("0.2.0",)
    assert installer(publisher) == installer_sha256(publisher.trusted())


@pytest.mark.usefixtures("unchecked")
def test_the_refresh_key_lists_no_program(publisher: Publisher) -> None:
    """A stolen refresh key signs what it likes; a box refuses the whole list."""
    data = b"evil"
    path = "runtime/9.0.0/lifeboat_ai-9.0.0-py3-none-any.whl"
    publisher.add_content({path: TargetFile(len(data), hashlib.sha256(data).hexdigest())})
    with pytest.raises(BadBundle, match="content lists"):
        trusted(publisher.folder, publisher)


def test_a_builder_that_is_stopped_anywhere_can_go_on(
    publisher: Publisher, keyring: Keyring, runtime: Callable[[str], Runtime], ship: Callable[..., Shipped]
) -> None:
    """At every third rename: the list is whole after the next command, old or new, and the same command completes."""
    ship("0.1.0")
    made, start = runtime("0.2.0"), publisher.folder.parent / "start"
    shutil.copytree(publisher.folder.parent / "repo", start)
    marks = shutil.copytree(keyring.home, publisher.folder.parent / "marks")
    for step in range(0, 100, 3):
        shutil.rmtree(publisher.folder)
        shutil.rmtree(keyring.home)
        shutil.copytree(start, publisher.folder)
        shutil.copytree(marks, keyring.home)
        layer = Halting(step)
        halted = Publisher(publisher.folder, keyring, NOW, layer)
        try:
            add_runtime(halted, made, keyring, Roots(keyring.home), None, layer)
        except Stopped:
            with publisher.locked():
                assert whole(publisher) in (("0.1.0",), ("0.1.0", "0.2.0"))
            ship("0.2.0")
            assert whole(publisher) == ("0.1.0", "0.2.0")
        else:
            break
    assert 10 < step < 99


class Halting(FileLayer):
    """Stops before the rename of this number."""

    def __init__(self, left: int) -> None:
        self._left = left

    def rename(self, source: Path, target: Path) -> None:
        if self._left == 0:
            raise Stopped
        self._left -= 1
        super().rename(source, target)


def test_a_copy_carries_the_newest_program_alone(
    publisher: Publisher, keyring: Keyring, ship: Callable[..., Shipped], tmp_path: Path
) -> None:
    """What an earlier copy brought is removed from the medium, and a courier can check what is on it."""
    add_site(publisher, keyring, publisher.policy().repository, "bristol", work_factor_log2=QUICK)
    (tmp_path / "model").write_bytes(random.Random(1).randbytes(50_000))
    model = Captured("model", tmp_path / "model", "gguf", "", "file:model", (), 16_000)
    BundleWriter(publisher, keyring, QUIET, 30_000).write("demo", (model,), SERVICE, NOW)
    usb = tmp_path / "usb"
    for version in ("0.1.0", "0.2.0"):
        ship(version)
        copy_for_sites(publisher, keyring, ["bristol"], usb, QUIET, now=NOW)
        assert [path.name for path in (usb / "runtime").iterdir()] == [version]
        assert (usb / "install.sh").read_bytes() == (publisher.folder / "install.sh").read_bytes()
    found = inspection.verify(usb, None, None, NOW, QUIET)
    assert found.software == ("0.1.0", "0.2.0")
    assert found.left_out == 8
    wheel = next((usb / "runtime" / "0.2.0").glob("h11*"))
    wheel.write_bytes(wheel.read_bytes()[:-1])
    with pytest.raises(BadBundle, match="h11"):
        inspection.verify(usb, None, None, NOW, QUIET)


def test_a_file_that_changes_while_it_is_read_is_not_listed(
    publisher: Publisher, keyring: Keyring, runtime: Callable[[str], Runtime]
) -> None:
    """What was checked is what is signed."""
    made = runtime("0.2.0")
    files = tuple(replace(file, sha256="0" * 64) if "h11" in file.name else file for file in made.files)
    with pytest.raises(BadInput, match="changed while it was read"):
        add_runtime(publisher, replace(made, files=files), keyring, Roots(keyring.home), None, DISK)
    assert whole(publisher) == ()
