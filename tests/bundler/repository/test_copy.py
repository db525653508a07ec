"""Copies for a site: resumable, minimal, read back, and told in a technician's words."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import pytest

from bundler import inspection
from bundler.files import FileLayer, staged
from bundler.format.errors import BadBundle, BadInput, FileMissing, NoSpace
from bundler.format.service import LadderSpec, LimitsSpec, Service
from bundler.format.trust.medium import load_repository
from bundler.format.trust.verify import digest
from bundler.repository.copy import Copied, copy_for_site, copy_for_sites
from bundler.repository.keyring import Keyring
from bundler.repository.ledger import read_ledger
from bundler.repository.publish import Publisher
from bundler.repository.sites import add_site, remove_site
from bundler.repository.survey import Captured
from bundler.repository.write import BundleWriter
from bundler.terminal import Terminal

NOW, QUICK, KB = datetime(2026, 11, 21, 12, tzinfo=UTC), 10, 1_000
SERVICE = Service(
    "demo", "Demo", (), None, (), (), (), (), LadderSpec((), (), (), "", "", ""), LimitsSpec(1, 1, 1), None, ()
)
QUIET = Terminal(json_output=True)


class Stock:
    """A repository with a site, and bundles of a model and an FAQ."""

    def __init__(self, publisher: Publisher, keyring: Keyring, work: Path) -> None:
        self.publisher, self.keyring, self._work = publisher, keyring, work
        self._writer = BundleWriter(publisher, keyring, QUIET, 300 * KB)
        add_site(publisher, keyring, publisher.policy().repository, "bristol", work_factor_log2=QUICK)

    def build(self, faq: bytes) -> str:
        (self._work / "model").write_bytes(random.Random(1).randbytes(900 * KB))
        (self._work / "faq").write_bytes(faq)
        files = tuple(Captured(n, self._work / n, "gguf", "", f"file:{n}", (), 16 * KB) for n in ("model", "faq"))
        return self._writer.write("demo", files, SERVICE, NOW).descriptor.bundle

    def copy(self, medium: Path, delivered: tuple[str, ...] = (), layer: FileLayer | None = None) -> Copied:
        trusted = self.publisher.trusted()
        used = layer or FileLayer()
        return copy_for_site(self.publisher.folder, trusted, "bristol", delivered, medium, QUIET, used)

    def deliver(self, medium: Path, *sites: str, full: bool = False) -> list[Copied]:
        names = list(sites or ("bristol",))
        return copy_for_sites(self.publisher, self.keyring, names, medium, QUIET, now=NOW, full=full)


@pytest.fixture
def stock(tmp_path: Path, publisher: Publisher, keyring: Keyring) -> Stock:
    (tmp_path / "work").mkdir()
    return Stock(publisher, keyring, tmp_path / "work")


def test_a_copy_is_what_a_box_needs_and_nothing_else(stock: Stock, tmp_path: Path) -> None:
    """Metadata verifies from the medium; another site's files and older bundles are not on it."""
    stock.build(b"1")
    bundle = stock.build(b"2")
    done = stock.copy(tmp_path / "usb")
    root = stock.publisher.first_root()
    trusted = load_repository(tmp_path / "usb", root=root, repository=None, now=NOW, remembered=None)
    assert f"bundles/{bundle}/bundle.json" in trusted.targets
    names = {path.relative_to(tmp_path / "usb").as_posix() for path in (tmp_path / "usb").rglob("*") if path.is_file()}
    assert len(names) == done.files
    assert not any(name.endswith(".part") for name in names)
    assert {name for name in names if name.startswith("sites/")} == {
        f"sites/bristol/{name}.age" for name in ("enroll", "keys", "settings")
    }


def test_volumes_that_the_site_has_are_left_out(stock: Stock, tmp_path: Path) -> None:
    """After a delivery only what is new travels; a full copy is asked for by naming no delivery."""
    first = stock.build(b"1")
    stock.build(b"2")
    small = stock.copy(tmp_path / "small", (first,))
    full = stock.copy(tmp_path / "full")
    assert small.left_out
    assert small.left_out_bytes > 0
    assert small.written_bytes < 60 * KB < 900 * KB < full.written_bytes


def test_what_lies_on_the_medium_is_not_left_out(stock: Stock, tmp_path: Path) -> None:
    """The stick of the delivery before holds the volumes still: a new box can be made from it."""
    first = stock.build(b"1")
    stock.copy(tmp_path / "usb")
    stock.build(b"2")
    again = stock.copy(tmp_path / "usb", (first,))
    assert (again.left_out, again.left_out_bytes) == ((), 0)


def test_a_second_copy_writes_nothing_and_mends_what_broke(
    stock: Stock, tmp_path: Path, flip: Callable[[Path, int], None]
) -> None:
    """What the medium returns is hashed again; the one damaged volume is written again."""
    stock.build(b"1")
    stock.copy(tmp_path / "usb")
    assert stock.copy(tmp_path / "usb").written_bytes == 0
    volume = sorted((tmp_path / "usb").rglob("*/vol/*.age"))[1]
    flip(volume, 1000)
    assert stock.copy(tmp_path / "usb").written_bytes == volume.stat().st_size


def verified(stock: Stock, medium: Path, *, deep: bool = False) -> inspection.Verified:
    def identities(repository: str) -> dict[str, str]:
        return read_ledger(stock.keyring, repository).identities

    root = digest(stock.publisher.first_root())
    return inspection.verify(medium, root, identities if deep else None, NOW, QUIET)


@pytest.mark.parametrize("deep", [False, True])
def test_a_medium_is_verified_though_it_holds_a_part(stock: Stock, tmp_path: Path, deep: bool) -> None:
    """What a copy left out on purpose is counted, not missed; what is lost is named."""
    stock.build(b"1")
    stock.deliver(tmp_path / "first")
    assert verified(stock, tmp_path / "first", deep=deep).left_out == 0
    bundle = stock.build(b"2")
    stock.deliver(tmp_path / "second")
    found = verified(stock, tmp_path / "second", deep=deep)
    assert found.bundles == (bundle,)
    assert found.left_out > 4
    inspected = inspection.summaries(tmp_path / "second", None, None, NOW)
    assert [item.bundle for item in inspected] == [bundle]
    next((tmp_path / "second").glob(f"bundles/{bundle}/index.age")).unlink()
    with pytest.raises(FileMissing, match=r"index\.age is missing"):
        verified(stock, tmp_path / "second", deep=deep)


def test_what_is_gone_leaves_the_medium(stock: Stock, tmp_path: Path) -> None:
    """Superseded metadata and the files of a removed site are not carried on."""
    stock.build(b"1")
    add_site(stock.publisher, stock.keyring, stock.publisher.policy().repository, "paris", work_factor_log2=QUICK)
    stock.deliver(tmp_path / "usb", "bristol", "paris")
    remove_site(stock.publisher, stock.keyring, "paris")
    stock.deliver(tmp_path / "usb")
    assert [path.name for path in (tmp_path / "usb" / "sites").iterdir()] == ["bristol"]
    for role in ("snapshot", "targets", "content"):
        assert len(list((tmp_path / "usb").glob(f"metadata/*.{role}.json"))) == 1


@pytest.mark.parametrize("where", [".", "inside", ".."])
def test_a_repository_is_not_its_own_medium(stock: Stock, where: str) -> None:
    """A copy into the repository, or around it, is refused and counts as no delivery."""
    stock.build(b"1")
    with pytest.raises(BadInput, match="lie in each other"):
        stock.deliver(stock.publisher.folder / where)
    ledger = read_ledger(stock.keyring, stock.publisher.policy().repository)
    assert ledger.site("bristol").delivered == ()


def test_another_repository_s_medium_is_left(stock: Stock, tmp_path: Path) -> None:
    """One folder holds one repository: the other customer's stick still installs."""
    stock.build(b"1")
    other = Publisher(tmp_path / "other", stock.keyring, NOW)
    other.create()
    shutil.copytree(other.folder / "metadata", tmp_path / "usb" / "metadata")
    before = (tmp_path / "usb/metadata/timestamp.json").read_bytes()
    with pytest.raises(BadInput, match="holds another repository"):
        stock.deliver(tmp_path / "usb")
    assert (tmp_path / "usb/metadata/timestamp.json").read_bytes() == before


@pytest.mark.parametrize("timestamp", [b"", b"[]", b'{"signed": null}', b"[" * 16_000])
def test_a_damaged_medium_is_written_anew(stock: Stock, tmp_path: Path, timestamp: bytes) -> None:
    """Whatever stands where the newest timestamp should."""
    stock.build(b"1")
    stock.deliver(tmp_path / "usb")
    (tmp_path / "usb/metadata/timestamp.json").write_bytes(timestamp)
    stock.deliver(tmp_path / "usb")
    expected = (stock.publisher.folder / "metadata/timestamp.json").read_bytes()
    assert (tmp_path / "usb/metadata/timestamp.json").read_bytes() == expected


def test_a_link_on_the_medium_leads_nowhere(stock: Stock, tmp_path: Path) -> None:
    """A stick that comes back cannot make the builder write elsewhere."""
    stock.build(b"1")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "usb").mkdir()
    (tmp_path / "usb" / "bundles").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadBundle, match="symbolic link"):
        stock.deliver(tmp_path / "usb")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_medium_that_does_not_verify_counts_as_no_delivery(
    stock: Stock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the last reading of the medium fails, the next copy leaves no volume out."""
    first = stock.build(b"1")
    stock.deliver(tmp_path / "whole")

    def unreadable(*_: object, **__: object) -> None:
        raise BadBundle("the medium is gone")

    second = stock.build(b"2")
    with monkeypatch.context() as patch:
        patch.setattr("bundler.repository.copy.load_repository", unreadable)
        with pytest.raises(BadBundle, match="the medium is gone"):
            stock.deliver(tmp_path / "lost")
    ledger = read_ledger(stock.keyring, stock.publisher.policy().repository)
    assert ledger.site("bristol").delivered == (first,)
    done = stock.deliver(tmp_path / "usb")
    assert not [path for path in done[0].left_out if second in path]
    ledger = read_ledger(stock.keyring, stock.publisher.policy().repository)
    assert ledger.site("bristol").delivered == (first, second)


def test_a_site_that_is_named_twice_is_copied_whole(stock: Stock, tmp_path: Path) -> None:
    """The second copy does not take the first for an earlier delivery."""
    bundle = stock.build(b"1")
    done = stock.deliver(tmp_path / "usb", "bristol", "bristol")
    assert [copied.left_out for copied in done] == [(), ()]
    ledger = read_ledger(stock.keyring, stock.publisher.policy().repository)
    assert ledger.site("bristol").delivered == (bundle,)


class Stopping(FileLayer):
    """Fails when the given number of files has been renamed into place."""

    def __init__(self, after: int) -> None:
        self.left = after

    def rename(self, source: Path, target: Path) -> None:
        if self.left == 0:
            raise OSError(5, "Input/output error")
        self.left -= 1
        super().rename(source, target)


@pytest.mark.parametrize("after", [0, 3, 7])
def test_a_stopped_copy_goes_on(stock: Stock, tmp_path: Path, after: int) -> None:
    """It is never taken for a whole one, since the timestamp comes last; the rerun writes only the rest."""
    stock.build(b"1")
    whole = stock.copy(tmp_path / "other")
    with pytest.raises(OSError, match="Input/output"):
        stock.copy(tmp_path / "usb", layer=Stopping(after))
    assert not (tmp_path / "usb/metadata/timestamp.json").exists()
    rest = stock.copy(tmp_path / "usb")
    assert rest.written_bytes + rest.kept_bytes == whole.written_bytes
    assert (rest.kept_bytes > 0) is (after > 0)


def test_a_medium_that_returns_other_bytes_is_named(
    stock: Stock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stick that loses data is found at once; the message names the volume as people count them."""
    stock.build(b"1")
    honest = staged

    @contextmanager
    def lossy(path: Path, *, layer: FileLayer) -> Iterator[BinaryIO]:
        with honest(path, layer=layer) as file:
            yield file
            if path.name == "0002.age":
                file.seek(500)
                file.write(b"lost")

    monkeypatch.setattr("bundler.repository.copy.staged", lossy)
    with pytest.raises(BadBundle, match=r"copy volume 2 again \(bundles/.*/vol/0002\.age\)"):
        stock.copy(tmp_path / "usb")


def test_a_damaged_repository_is_never_copied(stock: Stock, tmp_path: Path, flip: Callable[[Path, int], None]) -> None:
    """The damage is found while it is read, and nothing appears under the volume's name."""
    stock.build(b"1")
    volume = next(stock.publisher.folder.rglob("*/vol/0001.age"))
    flip(volume, 500)
    with pytest.raises(BadBundle, match="in the repository is not what was signed"):
        stock.copy(tmp_path / "usb")
    assert not list((tmp_path / "usb").rglob("0001.age*"))


def test_what_cannot_be_copied_is_told(stock: Stock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No bundle, no such site, no room: each before anything is written."""
    with pytest.raises(BadInput, match="holds no bundle"):
        stock.copy(tmp_path / "usb")
    stock.build(b"1")
    with pytest.raises(BadInput, match="has no site"):
        copy_for_site(stock.publisher.folder, stock.publisher.trusted(), "paris", (), tmp_path / "usb", QUIET)
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(NoSpace, match=r"has 1\.0 kB free, [0-9.]+ MB are needed \([0-9.]+ MB more\)"):
        stock.copy(tmp_path / "usb")
    assert not list((tmp_path / "usb").rglob("*"))
