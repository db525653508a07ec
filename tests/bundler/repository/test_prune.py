"""Prune on real repositories: what goes, what copies and builders do afterwards, and what is refused."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tuf.ngclient.updater import Updater

from bundler.files import FileLayer
from bundler.format.bundle import check_chunks, open_bundle
from bundler.format.errors import BadBundle, Busy, NotReady, UnknownRoot
from bundler.format.manifest import order_of
from bundler.format.service import LadderSpec, LimitsSpec, Service
from bundler.format.site import make_code, open_enrolment, open_keys
from bundler.format.trust.descriptors import newest_descriptor
from bundler.format.trust.medium import check_file
from bundler.repository.copy import Copied, copy_for_sites
from bundler.repository.keyring import Keyring, Msp
from bundler.repository.ledger import read_ledger
from bundler.repository.prune import Proposal, hint, propose, prune
from bundler.repository.publish import Publisher
from bundler.repository.roots import Roots, first_root
from bundler.repository.rotation import PolicyChange, changed_policy
from bundler.repository.sites import add_site, open_repository
from bundler.repository.survey import Captured
from bundler.repository.write import BundleWriter
from bundler.terminal import Terminal

# python-tuf's client asks the clock itself.
NOW, QUICK, KB = datetime.now(UTC), 10, 1_000
SERVICE = Service("s", "S", (), None, (), (), (), (), LadderSpec((), (), (), "", "", ""), LimitsSpec(1, 1, 1), None, ())
QUIET = Terminal(json_output=True)


def fixed(count: int) -> bytes:
    return (bytes(range(10)) * count)[:count]


class Shop:
    """A repository of a model and an FAQ, with one site."""

    def __init__(self, publisher: Publisher, keyring: Keyring, work: Path, base: Path | None = None) -> None:
        self.publisher, self.keyring, self.work = publisher, keyring, work
        self._writer = BundleWriter(publisher, keyring, QUIET, 300 * KB, base)
        work.mkdir()
        repository = publisher.policy().repository
        add_site(publisher, keyring, repository, "bristol", random=fixed, work_factor_log2=QUICK)

    def build(self, faq: bytes, model: int = 1) -> str:
        (self.work / "model").write_bytes(random.Random(model).randbytes(900 * KB))
        (self.work / "faq").write_bytes(faq)
        files = tuple(Captured(n, self.work / n, "gguf", "", f"file:{n}", (), 16 * KB) for n in ("model", "faq"))
        with self.publisher.locked():
            self.publisher.sweep()
            return self._writer.write("demo", files, SERVICE, NOW).descriptor.bundle

    def prune(self, keep: int = 1, layer: FileLayer | None = None) -> Proposal:
        with self.publisher.locked():
            return prune(self.publisher, self.keyring, keep, lambda _: None, layer or FileLayer())

    def deliver(self, medium: Path, site: str = "bristol") -> Copied:
        return copy_for_sites(self.publisher, self.keyring, [site], medium, QUIET, now=NOW)[0]

    def revoke(self, bundle: str) -> None:
        self.publisher.change_policy(changed_policy(self.publisher.policy(), PolicyChange(revoke=(bundle,))))

    def bundles(self) -> list[str]:
        listed = {path.split("/")[1] for path in self.publisher.listed() if path.endswith("/bundle.json")}
        return sorted(listed, key=order_of)

    def keys(self) -> dict[str, str]:
        """What the site's card opens."""
        folder = self.publisher.folder / "sites" / "bristol"
        enrolment = open_enrolment((folder / "enroll.age").read_bytes(), make_code(fixed(10)))
        return open_keys((folder / "keys.age").read_bytes(), enrolment.identity)

    def check(self) -> None:
        """Every signed file is whole, and every byte of the newest bundle is as it was signed, by the site's keys."""
        trusted = self.publisher.trusted()
        for path, target in trusted.targets.items():
            check_file(self.publisher.folder, path, target)
        newest = newest_descriptor(self.publisher.folder, trusted)
        assert newest is not None
        with open_bundle(self.publisher.folder, newest, self.keys()) as bundle:
            assert check_chunks(bundle, lambda _: None) > 900 * KB


@pytest.fixture
def shop(tmp_path: Path, keyring: Keyring) -> Shop:
    publisher = Publisher(tmp_path / "repo", keyring, NOW)
    publisher.create()
    return Shop(publisher, keyring, tmp_path / "work")


def disk_bytes(folder: Path) -> int:
    """Bytes under a folder, each inode once."""
    looks = {look.st_ino: look.st_size for path in folder.rglob("*") if path.is_file() and (look := path.stat())}
    return sum(looks.values())


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_old_bundles_go_and_what_is_used_stays(shop: Shop) -> None:
    """The model's volumes outlive the bundle that brought them; freed bytes are what the disk got back."""
    built = [shop.build(random.Random(number + 9).randbytes(90 * KB)) for number in range(5)]
    before = disk_bytes(shop.publisher.folder)
    done = shop.prune(keep=2)
    assert shop.bundles() == built[3:] == [kept.bundle for kept in done.decision.kept]
    assert done.decision.removed == tuple(built[:3])
    # What is written anew (metadata, keys) takes a little of it back.
    assert abs(before - disk_bytes(shop.publisher.folder) - done.freed.freed_bytes) < 20 * KB
    assert done.freed.freed_bytes > 3 * 90 * KB
    assert (shop.publisher.folder / "bundles" / built[0] / "vol").is_dir()  # the model
    assert not (shop.publisher.folder / "bundles" / built[1]).exists()
    shop.check()
    assert not shop.prune(keep=2).files


def test_keys_of_removed_bundles_are_taken_from_sites(shop: Shop) -> None:
    """`keys.age` holds what kept bundles and their volumes need; the builder forgets nothing."""
    for number in range(3):
        shop.build(random.Random(number + 9).randbytes(90 * KB))
    before = shop.keys()
    shop.prune()
    newest = newest_descriptor(shop.publisher.folder, shop.publisher.trusted())
    assert newest is not None
    assert set(shop.keys()) == {newest.recipient, *(volume.recipient for volume in newest.volumes)} < set(before)
    ledger = read_ledger(shop.keyring, shop.publisher.policy().repository)
    assert set(before) <= set(ledger.identities)


def test_a_sequence_never_comes_back(shop: Shop) -> None:
    """The newest bundle stays though it is revoked, and whoever removes a bundle's folder finds the number taken."""
    first, second, third = (shop.build(bytes([number]) * 50 * KB) for number in range(3))
    shop.revoke(third)
    shop.revoke(second)
    done = shop.prune()
    assert shop.bundles() == [first, third]
    assert [kept.reasons for kept in done.decision.kept] == [("the newest",), ("sequences count from it",)]
    fourth = shop.build(b"4" * 50 * KB)
    assert order_of(fourth) > order_of(third)
    assert shop.prune().decision.removed == (first, third)
    shop.check()


def test_a_copy_after_a_prune_leaves_out_the_same(shop: Shop, tmp_path: Path) -> None:
    """A site far behind keeps its bundle; one at a revoked bundle gets no volume twice though that bundle is gone."""
    first = shop.build(b"1" * 50 * KB)
    model = shop.deliver(tmp_path / "one").written_bytes
    for number in range(4):
        newest = shop.build(bytes([number]) * 50 * KB)
    assert shop.prune().decision.removed != ()
    assert first in shop.bundles()
    shop.revoke(first)
    shop.prune()
    assert shop.bundles() == [newest]
    for _ in range(2):  # what was remembered outlives another prune, of a newer list
        newest = shop.build(random.Random(3).randbytes(50 * KB))
        shop.prune()
    copied = shop.deliver(tmp_path / "two")
    assert copied.left_out_bytes > 900 * KB
    assert copied.written_bytes < 100 * KB < model
    newest = shop.build(b"6" * 50 * KB)
    assert shop.deliver(tmp_path / "three").left_out_bytes > 900 * KB
    ledger = read_ledger(shop.keyring, shop.publisher.policy().repository)
    assert ledger.site("bristol").volumes == ()
    assert ledger.site("bristol").delivered[-1] == newest


def test_a_stick_that_comes_back_is_pruned_with_the_repository(shop: Shop, tmp_path: Path) -> None:
    """It would fill up else: what is signed no more goes from it, what is still used stays for a new box."""
    first = shop.build(random.Random(1).randbytes(90 * KB))
    shop.deliver(tmp_path / "usb")
    second = shop.build(random.Random(2).randbytes(90 * KB))
    shop.deliver(tmp_path / "usb")
    assert (tmp_path / "usb" / "bundles" / first / "bundle.json").exists()
    shop.prune()
    again = shop.deliver(tmp_path / "usb")
    assert (again.left_out, again.bundle) == ((), second)
    on_it = {path for path in files(tmp_path / "usb") if path.startswith("bundles/")}
    assert on_it == {path for path in shop.publisher.listed() if path.startswith("bundles/")}


@pytest.fixture
def based(tmp_path: Path, keyring: Keyring) -> tuple[Shop, Shop]:
    """A base with a model, and a shop on it that has built once."""
    shops: list[Shop] = []
    for name in ("base", "repo"):
        publisher = Publisher(tmp_path / name, keyring, NOW)
        publisher.create()
        shops.append(Shop(publisher, keyring, tmp_path / f"{name}-work", tmp_path / "base" if shops else None))
        shops[-1].build(name.encode())
    return shops[0], shops[1]


def test_a_volume_that_the_box_removed_is_shipped_again(tmp_path: Path, based: tuple[Shop, Shop]) -> None:
    """A model of the base that went and comes back: the site's box has removed it meanwhile."""
    _, shop = based
    assert shop.deliver(tmp_path / "a").written_bytes > 900 * KB
    shop.build(b"two", model=2)
    shop.deliver(tmp_path / "b")
    shop.build(b"three")
    assert shop.deliver(tmp_path / "c").written_bytes > 900 * KB


def test_what_a_base_shares_frees_nothing(tmp_path: Path, based: tuple[Shop, Shop]) -> None:
    """Linked volumes are told apart; a base that is pruned leaves its customers whole, and they use it again."""
    base, shop = based
    base.build(b"base", model=2)
    done = base.prune()
    assert done.freed.shared_bytes > 900 * KB > 50 * KB > done.freed.freed_bytes
    shop.check()
    shop.build(b"two", model=2)
    before = disk_bytes(tmp_path)
    done = shop.prune()
    assert done.freed.freed_bytes > 900 * KB  # the base let go of them, so they lay here alone
    assert abs(before - disk_bytes(tmp_path) - done.freed.freed_bytes) < 20 * KB
    shop.check()
    base.check()


def their_targets(updater: Updater, bundle: str) -> bool:
    """Reads the repository with python-tuf's own client, and fetches a bundle's descriptor where it is listed."""
    updater.refresh()
    found = updater.get_targetinfo(f"bundles/{bundle}/bundle.json")
    if found is not None:
        updater.download_target(found)
    return found is not None


def test_python_tuf_agrees(shop: Shop, tmp_path: Path, their_client: Callable[[Path, bytes, Path], Updater]) -> None:
    """A client that knew the repository before, and a new one: the removed bundle is gone, the kept one is whole."""

    def listed(local: str, bundle: str) -> bool:
        return their_targets(their_client(shop.publisher.folder, root, tmp_path / local), bundle)

    root, first = shop.publisher.first_root(), shop.build(b"1" * 50 * KB)
    assert listed("old", first)
    second = shop.build(b"2" * 50 * KB)
    shop.prune()
    for client in ("old", "new"):
        assert not listed(client, first)
        assert listed(client, second)
    numbered = [path.name for path in (shop.publisher.folder / "metadata").glob("*.json")]
    assert len(numbered) == 5  # the root, and one of each role


def test_a_damaged_repository_loses_nothing(shop: Shop) -> None:
    """Where the newest bundle is not whole, the older one may be what boxes need."""
    shop.build(b"1" * 50 * KB)
    second = shop.build(random.Random(2).randbytes(50 * KB))
    volume = next((shop.publisher.folder / "bundles" / second / "vol").iterdir())
    data = volume.read_bytes()
    for damage in (lambda: volume.unlink(), lambda: volume.write_bytes(data[:-1])):
        damage()
        before = files(shop.publisher.folder)
        with pytest.raises(BadBundle, match="nothing was removed"):
            shop.prune()
        assert files(shop.publisher.folder) == before
    volume.write_bytes(data)
    descriptor = shop.publisher.folder / "bundles" / second / "bundle.json"
    descriptor.write_bytes(descriptor.read_bytes().replace(b"made", b"mode"))
    with pytest.raises(BadBundle, match="not what was signed"):
        shop.prune()


def test_whose_repository_it_is_not_gets_no_hold_of_it(shop: Shop, tmp_path: Path) -> None:
    """Another MSP's home, and the same keys without the ledger, which alone knows what sites have."""
    shop.build(b"1" * 50 * KB)
    shop.build(b"2" * 50 * KB)
    before = files(shop.publisher.folder)
    stranger = Keyring(tmp_path / "other", lambda: "another")
    stranger.create(Msp("Elsewhere", "cd" * 16), QUICK)
    Roots(stranger.home).add(first_root(stranger, NOW), NOW)
    with pytest.raises(UnknownRoot):
        propose(Publisher(shop.publisher.folder, stranger, NOW), stranger)
    shutil.move(shop.keyring.home / "ledgers", tmp_path / "elsewhere")
    with pytest.raises(NotReady, match="no ledger"):
        shop.prune()
    assert files(shop.publisher.folder) == before


def test_another_command_is_waited_for(shop: Shop) -> None:
    """Nothing is looked at while a build writes."""
    shop.build(b"1" * 50 * KB)
    with shop.publisher.locked(), pytest.raises(Busy, match="another command is writing"):
        shop.prune()


def test_the_release_key_is_not_needed(shop: Shop) -> None:
    """An unattended job prunes with the refresh key and the ledger's identity alone."""
    shop.build(b"1" * 50 * KB)
    shop.build(b"2" * 50 * KB)
    for role in ("root", "release"):
        (shop.keyring.folder / f"{role}.key").unlink()
    assert len(shop.prune().decision.removed) == 1
    shop.check()


def test_what_a_kill_left_goes_with_the_next_build(shop: Shop) -> None:
    """Files whose bundle is no longer listed are removed by a build, too; what is not ours is left."""
    first, second = shop.build(b"1" * 50 * KB), shop.build(b"2" * 50 * KB)
    kept = shop.publisher.folder / "bundles" / second
    (kept / ".note").write_text("the operator's own")

    class Stopped(FileLayer):
        def remove(self, path: Path) -> None:
            if path.name == "index.age":
                raise KeyboardInterrupt
            super().remove(path)

    with pytest.raises(KeyboardInterrupt):
        shop.prune(layer=Stopped())
    old = shop.publisher.folder / "bundles" / first
    assert shop.bundles() == [second]
    assert (old / "index.age").exists()
    assert propose(shop.publisher, shop.keyring).freed.files > 0
    shop.build(b"3" * 50 * KB)
    assert not (old / "index.age").exists()
    assert (kept / ".note").exists()
    shop.check()


def test_links_are_not_followed(shop: Shop, tmp_path: Path) -> None:
    """A folder of a bundle that leads elsewhere is no folder of ours."""
    bundle = shop.build(b"1" * 50 * KB)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "index.age").write_bytes(b"precious")
    (shop.publisher.folder / "bundles" / "1-0900-0123abcd").symlink_to(elsewhere)
    (shop.publisher.folder / "bundles" / bundle / "link").symlink_to(elsewhere / "index.age")
    shop.prune()
    assert (elsewhere / "index.age").read_bytes() == b"precious"


def test_a_recovery_site_opens_what_is_left(tmp_path: Path, keyring: Keyring) -> None:
    """A dead box is replaced from the pruned repository with the recovery card."""
    publisher = Publisher(tmp_path / "repo", keyring, NOW)
    cards: list[str] = []
    with publisher.locked():
        open_repository(publisher, keyring, lambda made: cards.append(made.code), work_factor_log2=QUICK)
    shop = Shop(publisher, keyring, tmp_path / "work")
    shop.build(b"1" * 50 * KB)
    shop.build(b"2" * 50 * KB)
    shop.prune()
    folder = publisher.folder / "sites" / "recovery"
    enrolment = open_enrolment((folder / "enroll.age").read_bytes(), cards[0])
    keys = open_keys((folder / "keys.age").read_bytes(), enrolment.identity)
    newest = newest_descriptor(publisher.folder, publisher.trusted())
    assert newest is not None
    with open_bundle(publisher.folder, newest, keys) as bundle:
        check_chunks(bundle, lambda _: None)


def test_a_hint_where_it_pays(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder is told of what lies there for nothing once it is half of the repository, and many bytes."""
    for number in range(4):
        shop.build(b"1" * 50 * KB, model=number)
    assert hint(shop.publisher, shop.keyring) == ""  # a quarter
    for number in range(4, 8):
        shop.build(b"1" * 50 * KB, model=number)
    assert hint(shop.publisher, shop.keyring) == ""  # more than half of few bytes
    monkeypatch.setattr("bundler.repository.prune._HINT_BYTES", 0)
    assert re.search(r"4\.. MB of 7\.. MB are used by no recent bundle", hint(shop.publisher, shop.keyring))
