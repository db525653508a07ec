"""Bundles in a repository: what a rebuild ships, and how repositories share volumes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bundler.format import age
from bundler.format.bundle import check_chunks, open_bundle
from bundler.format.errors import BadBundle, BadInput
from bundler.format.manifest import Descriptor
from bundler.format.service import LadderSpec, LimitsSpec, Service
from bundler.format.site import open_enrolment, open_keys
from bundler.repository.keyring import Keyring
from bundler.repository.ledger import read_ledger
from bundler.repository.publish import Publisher
from bundler.repository.sites import add_site
from bundler.repository.survey import Captured
from bundler.repository.write import BundleWriter, Written
from bundler.terminal import Terminal

SERVICE = Service(
    "demo", "Demo", (), None, (), (), (), (), LadderSpec((), (), (), "", "", ""), LimitsSpec(1, 1, 1), None, ()
)
NOW, QUICK = datetime(2026, 11, 21, 12, tzinfo=UTC), 10
KB = 1_000


class Shop:
    """A repository with files to put into it."""

    def __init__(self, publisher: Publisher, keyring: Keyring, work: Path, base: Path | None = None) -> None:
        self.publisher, self.keyring, self.work = publisher, keyring, work
        self.writer = BundleWriter(publisher, keyring, Terminal(json_output=True), 300 * KB, base)
        work.mkdir()

    def write(self, service: Service = SERVICE, **contents: bytes) -> Written:
        return self.writer.write("demo", tuple(self._file(*item) for item in contents.items()), service, NOW)

    def _file(self, name: str, data: bytes) -> Captured:
        (self.work / name).write_bytes(data)
        return Captured(name, self.work / name, "gguf", "MIT", f"file:{name}", (), 16 * KB)

    def read(self, descriptor: Descriptor, name: str) -> bytes:
        keys = read_ledger(self.keyring, self.publisher.policy().repository).identities
        with open_bundle(self.publisher.folder, descriptor, keys) as bundle:
            check_chunks(bundle, lambda _: None)
            return bundle.read(name)


@pytest.fixture
def shop(tmp_path: Path, publisher: Publisher, keyring: Keyring) -> Shop:
    return Shop(publisher, keyring, tmp_path / "work")


def noise(seed: int, length: int) -> bytes:
    return random.Random(seed).randbytes(length)


def test_a_small_edit_ships_little(shop: Shop) -> None:
    """The model's volumes are used again; the new bundle adds the edited file alone, and all reads back."""
    model, faq = noise(1, 900 * KB), noise(2, 10 * KB)
    first = shop.write(model=model, faq=faq)
    second = shop.write(model=model, faq=faq + b"one more answer")
    assert first.new_bytes > 900 * KB
    assert second.new_bytes < 40 * KB
    assert {volume.path for volume in second.descriptor.volumes} & {volume.path for volume in first.descriptor.volumes}
    assert shop.read(second.descriptor, "model") == model
    assert shop.read(second.descriptor, "faq") == faq + b"one more answer"
    assert shop.read(first.descriptor, "faq") == faq


def test_without_a_change_there_is_no_bundle(shop: Shop) -> None:
    """Metadata is signed again, so that nothing expires; a change of the service alone is a change."""
    first = shop.write(model=noise(1, 50 * KB))
    before = shop.publisher.trusted().remembered()
    again = shop.write(model=noise(1, 50 * KB))
    assert (again.changed, again.new_bytes, again.descriptor) == (False, 0, first.descriptor)
    assert shop.publisher.trusted().remembered().timestamp_version == before.timestamp_version + 1
    other = shop.write(replace(SERVICE, title="New title"), model=noise(1, 50 * KB))
    assert other.changed
    assert other.new_bytes < 10 * KB


def test_a_mostly_dead_volume_is_left_behind(shop: Shop) -> None:
    """A site does not carry a volume along for a few live chunks in it."""
    keep = noise(1, 32 * KB)
    first = shop.write(keep=keep, gone=noise(2, 200 * KB))
    second = shop.write(keep=keep)
    assert {volume.path for volume in first.descriptor.volumes}.isdisjoint(v.path for v in second.descriptor.volumes)
    assert shop.read(second.descriptor, "keep") == keep


@pytest.fixture
def with_base(tmp_path: Path, publisher: Publisher, keyring: Keyring, shop: Shop) -> Shop:
    """A customer on `shop` as base."""
    shop.write(model=noise(1, 900 * KB))
    customer = Publisher(tmp_path / "customer", keyring, NOW)
    customer.create()
    return Shop(customer, keyring, tmp_path / "customer-work", publisher.folder)


def test_a_customer_shares_the_volumes_of_the_base(shop: Shop, with_base: Shop) -> None:
    """The model is stored once: the same inode; the customer's metadata lists it, and its keys open it."""
    written = with_base.write(model=noise(1, 900 * KB), faq=b"hello")
    assert written.new_bytes < 20 * KB
    shared = [volume for volume in written.descriptor.volumes if written.descriptor.bundle not in volume.path]
    assert shared
    for volume in shared:
        mine, base = (place.publisher.folder / volume.path for place in (with_base, shop))
        assert mine.stat().st_ino == base.stat().st_ino
        assert volume.path in with_base.publisher.listed()
    assert with_base.read(written.descriptor, "model") == noise(1, 900 * KB)


def test_a_later_bundle_needs_the_base_no_more(shop: Shop, with_base: Shop) -> None:
    """Shared volumes are the customer's own from then on."""
    with_base.write(model=noise(1, 900 * KB), faq=b"hello")
    with_base.writer = replace(with_base.writer, base=None)
    second = with_base.write(model=noise(1, 900 * KB), faq=b"hello again")
    assert second.new_bytes < 20 * KB
    assert with_base.read(second.descriptor, "faq") == b"hello again"


def test_a_damaged_base_is_refused(shop: Shop, with_base: Shop, flip: Callable[[Path, int], None]) -> None:
    """Nothing is signed, and the next build removes what had been linked before the damage was met."""
    volume = next((shop.publisher.folder / "bundles").glob("*/vol/0001.age"))
    flip(volume, 100 * KB)
    with pytest.raises(BadBundle, match="not what was signed"):
        with_base.write(model=noise(1, 900 * KB))
    assert with_base.publisher.listed() == ()
    with_base.publisher.sweep()
    assert list((with_base.publisher.folder / "bundles").rglob("*.age")) == []


def test_a_base_without_bundles_is_refused(tmp_path: Path, keyring: Keyring, publisher: Publisher) -> None:
    """The message says what to build first."""
    customer = Publisher(tmp_path / "customer", keyring, NOW)
    customer.create()
    with pytest.raises(BadInput, match="holds no bundle"):
        Shop(customer, keyring, tmp_path / "w", publisher.folder).write(model=b"x")


def site_keys(shop: Shop, code: str, name: str) -> dict[str, str]:
    folder = shop.publisher.folder / "sites" / name
    enrolment = open_enrolment((folder / "enroll.age").read_bytes(), code)
    return open_keys((folder / "keys.age").read_bytes(), enrolment.identity)


def test_a_site_opens_what_was_built_before_and_after_it(shop: Shop) -> None:
    """Its keys.age carries the identities of every bundle that may be installed, and of the volumes they use."""
    first = shop.write(model=noise(1, 900 * KB), faq=b"1")
    repository = shop.publisher.policy().repository
    site = add_site(shop.publisher, shop.keyring, repository, "bristol", work_factor_log2=QUICK)
    assert set(site_keys(shop, site.code, "bristol")) == {first.descriptor.recipient}
    second = shop.write(model=noise(1, 900 * KB), faq=b"2")
    keys = site_keys(shop, site.code, "bristol")
    assert set(keys) == {first.descriptor.recipient, second.descriptor.recipient}
    with open_bundle(shop.publisher.folder, second.descriptor, keys) as bundle:
        assert bundle.read("faq") == b"2"


def test_a_post_quantum_repository_has_no_classic_key(tmp_path: Path, keyring: Keyring) -> None:
    """Bundle identities and every wrap are hybrid; all of it opens."""
    publisher = Publisher(tmp_path / "pq", keyring, NOW)
    publisher.create(suite=age.PQ_SUITE)
    shop = Shop(publisher, keyring, tmp_path / "w")
    site = add_site(publisher, keyring, publisher.policy().repository, "bristol", work_factor_log2=QUICK)
    written = shop.write(model=noise(1, 50 * KB))
    assert written.descriptor.suite == age.PQ_SUITE
    keys = site_keys(shop, site.code, "bristol")
    assert all(recipient.startswith("age1pq1") for recipient in keys)
    header = (publisher.folder / "sites/bristol/keys.age").read_bytes()[:200]
    assert b"mlkem768x25519" in header
    assert b"-> X25519" not in header
    assert shop.read(written.descriptor, "model") == noise(1, 50 * KB)
