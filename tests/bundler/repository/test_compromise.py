"""docs/compromise.md, rehearsed row by row: the thief acts, the commands run, the thief acts again."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bundler.files import DISK
from bundler.format.bundle import open_bundle
from bundler.format.errors import BadInput, LifeboatError, NotReady, TooOld, WrongKey
from bundler.format.manifest import Descriptor
from bundler.format.service import LadderSpec, LimitsSpec, Service
from bundler.format.site import open_enrolment, open_keys
from bundler.format.trust.medium import load_repository
from bundler.format.trust.policy import may_install
from bundler.format.trust.verify import Remembered, TrustedRepository
from bundler.repository.keyring import LEDGER, Keyring
from bundler.repository.publish import Publisher
from bundler.repository.roots import Change, Roots, changed_root
from bundler.repository.rotation import PolicyChange, changed_policy, take_root
from bundler.repository.sites import NewSite, add_site, remove_site
from bundler.repository.survey import Captured
from bundler.repository.write import BundleWriter
from bundler.terminal import Terminal

NOW, QUICK = datetime(2026, 11, 21, 12, tzinfo=UTC), 10
SERVICE = Service("s", "S", (), None, (), (), (), (), LadderSpec((), (), (), "", "", ""), LimitsSpec(1, 1, 1), None, ())


class Customer:
    """A repository with a site, a bundle, and a box that has seen both."""

    def __init__(self, publisher: Publisher, keyring: Keyring, folder: Path) -> None:
        self.publisher, self.keyring, self.folder = publisher, keyring, folder
        self.root = publisher.first_root()
        self.site = self.new_site("bristol")
        self.bundle = self.build(b"one")
        self.seen = self.box()

    def new_site(self, name: str) -> NewSite:
        identifier = self.publisher.policy().repository
        return add_site(self.publisher, self.keyring, identifier, name, work_factor_log2=QUICK)

    def build(self, data: bytes, publisher: Publisher | None = None, keyring: Keyring | None = None) -> Descriptor:
        file = self.folder / "faq"
        file.write_bytes(data)
        used = publisher or self.publisher
        writer = BundleWriter(used, keyring or self.keyring, Terminal(quiet=True), 40_000, layer=DISK)
        return writer.write("s", (Captured("faq", file, "faq", "", "file:faq", (), 4_096),), SERVICE, NOW).descriptor

    def box(self, folder: Path | None = None, remembered: Remembered | None = None) -> TrustedRepository:
        """What the box makes of a medium, from the root that it knows."""
        place = folder or self.publisher.folder
        return load_repository(place, root=self.root, repository=None, now=NOW, remembered=remembered)

    def keys(self, site: NewSite) -> dict[str, str]:
        """What the holder of a site card and the newest stick can open."""
        folder = self.publisher.folder / "sites" / site.site
        enrolment = open_enrolment((folder / "enroll.age").read_bytes(), site.code)
        return open_keys((folder / "keys.age").read_bytes(), enrolment.identity)

    def replace(self, duty: str) -> None:
        roots, ring = Roots(self.keyring.home), self.keyring
        change = Change(duty, [ring.new_key(f"{duty}-2", QUICK)], [ring.public(duty).keyid])
        take_root(changed_root(roots.newest(), [change], NOW), ring, roots, None, NOW)
        (ring.folder / f"{duty}.key").unlink()
        ring._signers.clear()
        self.publisher.resign()

    def stolen(self, *names: str) -> Keyring:
        """A thief's copy of the builder, with these keys and the ledger."""
        home = self.folder / "thief-home"
        shutil.copytree(self.keyring.home, home)
        for path in (home / "keyring").glob("*.key"):
            if path.stem not in (*names, LEDGER):
                path.unlink()
        return Keyring(home, lambda: "correct horse")

    def thief(self, keyring: Keyring) -> Publisher:
        """A thief's copy of the repository."""
        folder = self.folder / "thief-repository"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.publisher.folder, folder)
        return Publisher(folder, keyring, NOW)


@pytest.fixture
def customer(tmp_path: Path, publisher: Publisher, keyring: Keyring) -> Customer:
    (tmp_path / "work").mkdir()
    return Customer(publisher, keyring, tmp_path / "work")


def test_row_refresh_key(customer: Customer) -> None:
    """The thief ships content until the key is replaced; never a host, and nothing after it."""
    ring = customer.stolen("refresh")
    thief = customer.thief(ring)
    bad = customer.build(b"bad", thief, ring)
    assert f"bundles/{bad.bundle}/bundle.json" in customer.box(thief.folder).targets
    with pytest.raises(NotReady):
        thief.allow(("https://evil.example:443",))
    customer.replace("refresh")
    after = customer.box().remembered()
    root = (customer.publisher.folder / "metadata/2.root.json").read_bytes()
    shutil.copy(customer.publisher.folder / "metadata/2.root.json", thief.folder / "metadata")
    with pytest.raises(LifeboatError):
        load_repository(thief.folder, root=root, repository=None, now=NOW, remembered=after)


def test_row_release_key(customer: Customer) -> None:
    """The thief allows a host; after the rotation the box takes the true policy and none of the thief's."""
    ring = customer.stolen("release", "refresh")
    thief = customer.thief(ring)
    thief.allow(("https://evil.example:443",))
    assert "https://evil.example:443" in customer.box(thief.folder).policy.egress
    customer.replace("release")
    customer.replace("refresh")
    after = customer.box()
    assert "https://evil.example:443" not in after.policy.egress
    newest = (customer.publisher.folder / "metadata/3.root.json").read_bytes()
    with pytest.raises(LifeboatError):
        load_repository(thief.folder, root=newest, repository=None, now=NOW, remembered=after.remembered())


def test_row_root_key(customer: Customer) -> None:
    """A box that saw our new root first refuses the thief's; a new card names the new root."""
    ring = customer.stolen("root", "refresh", "release")
    customer.replace("root")
    after = customer.box().remembered()
    pinned = (customer.publisher.folder / "metadata/2.root.json").read_bytes()
    thief = customer.thief(ring)
    roots = Roots(ring.home)
    change = Change("release", [ring.new_key("mine", QUICK)], [ring.public("release").keyid])
    take_root(changed_root(roots.newest(), [change], NOW), ring, roots, None, NOW)
    (thief.folder / "metadata/2.root.json").unlink()
    thief.resign()
    with pytest.raises(LifeboatError):
        load_repository(thief.folder, root=pinned, repository=None, now=NOW, remembered=after)
    card = customer.new_site("cardiff").card
    assert Publisher(customer.publisher.folder, customer.keyring, NOW).newest_root() == pinned
    assert "SITE CARD  cardiff" in card


def test_row_key_card(customer: Customer) -> None:
    """Without the passphrase the card signs nothing."""
    sealed = customer.keyring.sealed("release")
    with pytest.raises(WrongKey):
        Keyring(customer.folder / "elsewhere", lambda: "guess").restore("release", sealed)


def test_row_job_passphrase(customer: Customer) -> None:
    """A job's keyring without root and release key builds, and can do no more than that."""
    ring = customer.stolen("refresh")
    job = Publisher(customer.publisher.folder, ring, NOW)
    assert customer.build(b"nightly", job, ring).sequence == 2
    for forbidden in (lambda: job.allow(("https://new.example:443",)), lambda: ring.signer("root")):
        with pytest.raises(NotReady):
            forbidden()


def test_row_site_card(customer: Customer) -> None:
    """The card reads what was; after removal and a new card, not what comes."""
    customer.build(b"two")
    stolen = customer.keys(customer.site)
    assert customer.bundle.recipient in stolen
    remove_site(customer.publisher, customer.keyring, "bristol")
    fresh = customer.new_site("bristol-2")
    later = customer.build(b"three")
    assert later.recipient not in stolen
    with pytest.raises(WrongKey):
        open_bundle(customer.publisher.folder, later, stolen)
    with open_bundle(customer.publisher.folder, later, customer.keys(fresh)) as bundle:
        assert bundle.read("faq") == b"three"


def test_row_site_card_and_volumes_that_are_used_again(tmp_path: Path, customer: Customer) -> None:
    """A raised epoch makes a new bundle of the old volumes, which the old card opens; a new repository does not."""
    same = bytes(range(256)) * 100
    before = customer.build(same)
    stolen = customer.keys(customer.site)
    remove_site(customer.publisher, customer.keyring, "bristol")
    policy = changed_policy(customer.publisher.policy(), PolicyChange(raise_epoch=True))
    customer.publisher.change_policy(policy)
    later = customer.build(same)
    assert later.volumes == before.volumes
    assert {volume.recipient for volume in later.volumes} <= stolen.keys()
    anew = Publisher(tmp_path / "new", customer.keyring, NOW)
    anew.create()
    assert not {volume.recipient for volume in customer.build(same, anew).volumes} & stolen.keys()


def test_row_stick(customer: Customer) -> None:
    """Nothing on it is readable: no content, no customer's text, no code."""
    stick = b"".join(path.read_bytes() for path in customer.publisher.folder.rglob("*") if path.is_file())
    assert customer.site.code.encode() not in stick
    customer.build(b"the salary of the chief executive")
    stick = b"".join(path.read_bytes() for path in customer.publisher.folder.rglob("*") if path.is_file())
    assert b"salary" not in stick


def test_row_builder(customer: Customer) -> None:
    """With all keys gone: new keys and a new epoch; no bundle of the thief's old state is installed any more."""
    ring = customer.stolen("root", "release", "refresh")
    thief = customer.thief(ring)
    bad = customer.build(b"bad", thief, ring)
    for duty in ("refresh", "release", "root"):
        customer.replace(duty)
    policy = changed_policy(customer.publisher.policy(), PolicyChange(raise_epoch=True))
    customer.publisher.change_policy(policy)
    good = customer.build(b"good")
    after = customer.box()
    assert not may_install(bad.bundle, after.policy)
    assert not may_install(customer.bundle.bundle, after.policy)
    assert may_install(good.bundle, after.policy)
    with pytest.raises(TooOld):
        customer.box(thief.folder, after.remembered())


def test_row_recovery_card(customer: Customer) -> None:
    """A fresh recovery site reads the next bundle, the stolen card does not."""
    stolen_card = customer.new_site("recovery")
    assert "RECOVERY CARD" in stolen_card.card
    stolen = customer.keys(stolen_card)
    remove_site(customer.publisher, customer.keyring, "recovery")
    fresh = customer.new_site("recovery")
    later = customer.build(b"two")
    assert later.recipient in customer.keys(fresh)
    assert later.recipient not in stolen


def test_row_bad_bundle(customer: Customer) -> None:
    """A revoked bundle may not be installed, and the sites' keys leave it out."""
    policy = changed_policy(customer.publisher.policy(), PolicyChange(revoke=(customer.bundle.bundle,)))
    customer.publisher.change_policy(policy)
    good = customer.build(b"completely different words, so that no volume is shared")
    assert not may_install(customer.bundle.bundle, customer.box().policy)
    assert may_install(good.bundle, customer.box().policy)
    assert customer.bundle.recipient not in customer.keys(customer.site)


def test_row_passphrase(customer: Customer) -> None:
    """After the change the old passphrase opens no key that lies here, and the builder works on."""
    home = customer.keyring.home
    Keyring(home, lambda: "correct horse").change_passphrase(lambda: "battery staple", QUICK)
    for name in ("root", "release", "refresh"):
        with pytest.raises(WrongKey):
            Keyring(home, lambda: "correct horse").signer(name)
    with pytest.raises(WrongKey):
        Keyring(home, lambda: "correct horse").ledger_identity()
    fresh = Keyring(home, lambda: "battery staple")
    assert customer.build(b"two", Publisher(customer.publisher.folder, fresh, NOW), fresh).sequence == 2


def test_row_clock(customer: Customer) -> None:
    """A signature from the future makes boxes warn; a new refresh key voids its time, and the builder signs again."""
    ahead = NOW + timedelta(days=700)
    Publisher(customer.publisher.folder, customer.keyring, ahead).resign()
    misled = customer.box()
    assert misled.remembered().signed_time == ahead.isoformat()
    with pytest.raises(BadInput, match="the clock says"):
        customer.publisher.resign()
    customer.replace("refresh")
    mended = customer.box(remembered=misled.remembered())
    assert mended.remembered().signed_time == NOW.isoformat()
    assert mended.warnings == ()


def test_every_row_has_its_test_and_its_commands_exist(repo_root: Path) -> None:
    """The page names tests that are here and commands that the program has."""
    text = (repo_root / "docs" / "compromise.md").read_text()
    here = {name for name in globals() if name.startswith("test_row_")}
    named = set(re.findall(r"`(test_row_\w+)`", text))
    assert named <= here
    assert all(any(name.startswith(row) for row in named) for name in here)  # as `pytest -k` finds them
    for words in set(re.findall(r"`lifeboat ((?:keys|site|policy) \w+|build)", text)):
        done = subprocess.run(
            [sys.executable, "-m", "bundler", *words.split(), "--help"], capture_output=True, check=False
        )
        assert done.returncode == 0, words
