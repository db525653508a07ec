"""`install` reads the medium once, goes on where it was stopped, and mends what a disk damaged."""

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from appliance.store import current, nightly
from appliance.store.medium import BLOCK_BYTES, BLOCKS, ReadAhead
from appliance.store.nightly import Nightly
from appliance.store.space import RESERVE_BYTES, check_space, needed_bytes
from bundler.format.errors import BadBundle, FileMissing, NoSpace, SelftestFailed, SystemFailed
from bundler.format.manifest import FileDigest
from bundler.terminal import exit_code


def flip(path: Path, place: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def store_of(customer: Any) -> Path:
    folder: Path = customer.layout.repository
    return folder


def test_each_file_is_read_once(customer: Any) -> None:
    """The index and each volume are opened once, in order; a refresh opens only what is new."""
    first = customer.build(b"one")
    report = customer.install()
    volumes = customer.volumes(customer.medium)
    assert len(volumes) >= 3
    assert customer.opened == [f"bundles/{first}/index.age", *volumes]
    assert report.copied_bytes == sum((customer.medium / path).stat().st_size for path in customer.opened)
    second = customer.build(b"two")
    customer.install()
    new = [path for path in customer.volumes(customer.medium) if path not in volumes]
    assert customer.opened == [f"bundles/{second}/index.age", *new]
    assert customer.serving() == second


def test_nothing_is_read_where_nothing_changed(customer: Any) -> None:
    """The same medium again opens no file of the bundle, on the medium or here."""
    customer.build(b"one")
    customer.install()
    volumes = [store_of(customer) / path for path in customer.volumes(store_of(customer))]
    before = [path.stat().st_mtime_ns for path in volumes]
    assert not customer.install().changed
    assert customer.opened == []
    assert [path.stat().st_mtime_ns for path in volumes] == before


def test_an_install_that_was_stopped_goes_on(customer: Any) -> None:
    """A medium that fails at the last volume is told as such (19); the rerun opens that one alone."""
    bundle = customer.build(b"one")
    last = customer.volumes(customer.medium)[-1]

    def broken(path: Path) -> BinaryIO:
        if path.as_posix().endswith(last):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return customer.open_file(path)  # type: ignore[no-any-return]

    with pytest.raises(SystemFailed, match="cannot be read") as failed:
        customer.install(open_file=broken)
    assert exit_code(failed.value) == 19
    assert "same command again" in failed.value.hint
    customer.install()
    assert customer.opened == [last]
    assert customer.serving() == bundle


def test_a_medium_that_is_pulled_out_is_told(customer: Any) -> None:
    """The folder is gone: not a missing file of a bad copy, but a medium to be put back; the rerun completes."""
    bundle = customer.build(b"one")
    away = customer.medium.with_name("pulled")

    def pulled(path: Path) -> BinaryIO:
        if path.name == "0002.age":
            customer.medium.rename(away)
        return customer.open_file(path)  # type: ignore[no-any-return]

    with pytest.raises(SystemFailed, match="is gone") as failed:
        customer.install(open_file=pulled)
    assert exit_code(failed.value) == 19
    away.rename(customer.medium)
    customer.install()
    assert f"bundles/{bundle}/vol/0001.age" not in customer.opened
    assert customer.serving() == bundle


def test_a_medium_whose_every_call_fails_is_told(customer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A share whose server is gone fails at the question whether it is there too; the install ends all the same."""
    customer.build(b"one")
    stat = Path.stat

    def lost(path: Path, **options: Any) -> os.stat_result:
        if path.is_relative_to(customer.medium) and customer.opened:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return stat(path, **options)

    class Lost:
        def __enter__(self) -> "Lost":
            return self

        def __exit__(self, *_: object) -> None: ...

        def readinto(self, _: object) -> int:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    def opened(path: Path) -> Any:
        customer.opened.append(path.name)
        return Lost()

    monkeypatch.setattr(Path, "stat", lost)
    with pytest.raises(SystemFailed, match="cannot be read") as failed:
        customer.install(open_file=opened)
    assert exit_code(failed.value) == 19


@pytest.mark.parametrize("change", ["flipped", "short", "long", "missing"])
def test_a_volume_is_copied_whole_or_not_at_all(customer: Any, change: str) -> None:
    """Wrong bytes, too few, too many, none: refused, nothing under the final name, and earlier volumes stay."""
    bundle = customer.build(b"one")
    volumes = customer.volumes(customer.medium)
    path = customer.medium / volumes[1]
    whole = path.read_bytes()
    changed = {"flipped": bytes([whole[0] ^ 1]) + whole[1:], "short": whole[:-1], "long": whole + b"x"}
    path.unlink()
    if change != "missing":
        path.write_bytes(changed[change])
    with pytest.raises(FileMissing if change == "missing" else BadBundle, match=r"missing|not what was signed"):
        customer.install()
    assert customer.volumes(store_of(customer)) == volumes[:1]
    assert list(store_of(customer).rglob("*.part")) == []
    path.write_bytes(whole)
    customer.install()
    assert customer.opened == volumes[1:]
    assert customer.serving() == bundle


def test_what_the_medium_damaged_is_named(customer: Any) -> None:
    """One flipped byte anywhere in a volume is the medium's fault, said with its name, whatever check sees it first."""
    customer.build(b"one")
    path = customer.volumes(customer.medium)[1]
    length = (customer.medium / path).stat().st_size
    for place in (0, 200, length // 2, length - 1):
        flip(customer.medium / path, place)
        with pytest.raises(BadBundle, match=r"is not what was signed \(its bytes differ\)") as failed:
            customer.install()
        assert path in failed.value.fact
        flip(customer.medium / path, place)


def test_a_volume_that_nobody_noted_is_read_once_more(customer: Any) -> None:
    """A power cut between name and note: it is checked here, not copied again; a damaged one is."""
    customer.build(b"one")
    customer.install()
    bundle = customer.build(b"two")
    volumes = customer.volumes(store_of(customer))
    customer.layout.finished.unlink()
    flip(store_of(customer) / volumes[0])
    customer.install()
    assert volumes[0] in customer.opened
    assert not set(volumes[1:]) & set(customer.opened)
    assert customer.serving() == bundle


def test_trust_ends_where_something_fails(customer: Any) -> None:
    """A finished volume that this disk damaged later fails the self-test; it is found, copied again, and proved."""
    customer.build(b"one")
    customer.install()
    bundle = customer.build(b"two")
    damaged = customer.volumes(store_of(customer))[0]
    flip(store_of(customer) / damaged, 5_000)

    def prove(candidate: Any) -> Any:
        candidate.read("model")
        return customer.good

    customer.install(prove)
    assert damaged in customer.opened
    assert customer.serving() == bundle


def test_a_failure_that_no_volume_explains_stays(customer: Any) -> None:
    """Whole volumes are read once more and the self-test's own reason is told."""
    customer.build(b"one")
    customer.install()
    customer.build(b"two")
    with pytest.raises(SelftestFailed, match="fails its own self-test"):
        customer.install(lambda _: replace(customer.good, passed=False))


def test_damage_that_the_night_found_is_mended_by_the_same_medium(customer: Any) -> None:
    """Also without a new bundle: what serves is read, mended, and taken into use as a new version."""
    bundle = customer.build(b"one")
    customer.install()
    damaged = customer.volumes(store_of(customer))[1]
    flip(store_of(customer) / damaged)
    assert not customer.install().changed
    nightly.write(customer.layout, Nightly(1, "2026-11-21T03:10:00+01:00", passed=False, lines=("disk: FAILED, x",)))
    report = customer.install()
    assert (report.changed, report.version, customer.opened) == (True, 2, [damaged])
    assert customer.serving() == bundle
    assert not customer.install().changed


def test_a_lost_volume_of_what_serves_is_copied_again(customer: Any) -> None:
    """Somebody removed it by hand: no option is needed."""
    bundle = customer.build(b"one")
    customer.install()
    lost = customer.volumes(store_of(customer))[2]
    (store_of(customer) / lost).unlink()
    assert customer.install().changed
    assert customer.opened == [lost]
    assert customer.serving() == bundle


def test_again_reads_everything_here(customer: Any) -> None:
    """A person who doubts the disk has it read; only what is damaged comes from the medium."""
    bundle = customer.build(b"one")
    customer.install()
    flip(store_of(customer) / customer.volumes(store_of(customer))[0], 9_000)
    assert customer.install(again=True).changed
    assert customer.opened == customer.volumes(store_of(customer))[:1]
    assert customer.serving() == bundle


def test_a_first_contact_that_was_stopped_keeps_what_it_copied(customer: Any) -> None:
    """The secrets are sealed at the end: the rerun asks for the code again, and copies nothing twice."""
    customer.build(b"one")

    def stop(_: object) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        customer.install(stop)
    assert current.current_number(customer.layout) is None
    assert customer.install().copied_bytes == 0
    assert customer.opened == []


def test_a_version_that_was_never_proposed_is_none_to_go_back_to(
    customer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An install that is stopped before the switch leaves the version that served as the one before the next."""

    def power_cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    first = customer.build(b"one")
    customer.install()
    customer.build(b"two")
    with monkeypatch.context() as patched:
        patched.setattr(current, "activate", power_cut)
        with pytest.raises(KeyboardInterrupt):
            customer.install()
    customer.install()
    serving = current.current_number(customer.layout)
    before = current.previous(customer.layout, serving or 0)
    assert before is not None
    assert current.bundle_of(customer.layout, before) == first


def test_what_does_not_fit_is_refused_first(tmp_path: Path, customer: Any) -> None:
    """The need is computed before anything is written; the message has both figures."""
    with pytest.raises(NoSpace, match=r"has [0-9.]+ [kMGT]?B free, the bundle needs [0-9.]+ [kMGTPE]?B \(.* more\)"):
        check_space(tmp_path, [2**60])
    check_space(tmp_path, [])


def test_the_need_is_rounded_to_blocks() -> None:
    """Each file takes whole blocks, and some for the file system's own records."""
    assert needed_bytes([1], 4096) == 6 * 4096
    assert needed_bytes([2**30], 4096) == 2**30 + 2**20 + 4 * 4096
    assert needed_bytes([1, 1], 4096) == 2 * needed_bytes([1], 4096)
    assert RESERVE_BYTES > 2**20


def test_a_full_disk_is_told_before_anything_is_written(customer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier run has copied counts as there: the same disk then holds the rest."""
    customer.build(b"one")
    free = RESERVE_BYTES + needed_bytes([60_000, 60_000], 4096)
    found = os.statvfs(customer.root)
    full = os.statvfs_result((4096, 4096, *found[2:4], free // 4096, *found[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    with pytest.raises(NoSpace):
        customer.install()
    assert list(store_of(customer).iterdir()) == []


def test_reading_ahead_is_bounded(tmp_path: Path) -> None:
    """A medium that never ends fills the buffers and waits; whoever stops taking ends it."""
    (tmp_path / "metadata").mkdir()
    zero = FileDigest("zero", 2**40, "0" * 64)
    read: list[int] = []

    class Endless:
        def __enter__(self) -> "Endless":
            return self

        def __exit__(self, *_: object) -> None: ...

        def readinto(self, block: bytearray) -> int:
            read.append(len(block))
            return len(block)

    opened: Any = lambda _: Endless()  # noqa: E731 - one line of a fake
    with ReadAhead(tmp_path, [zero], opened) as ahead:
        blocks = ahead.blocks()
        for _ in range(3):
            assert len(next(blocks)) == BLOCK_BYTES
    assert 3 <= len(read) <= BLOCKS + 3
