"""Whoever writes the repository's folder, but has no key: what the builder then signs, and what it refuses to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, Root, TargetFile, Targets

from bundler.format.errors import (
    BadBundle,
    BadInput,
    Busy,
    FileMissing,
    LifeboatError,
    NotReady,
    TooOld,
    UnknownRoot,
    WrongKey,
)
from bundler.format.service import LadderSpec, LimitsSpec, Service
from bundler.format.trust.descriptors import newest_descriptor
from bundler.format.trust.verify import digest
from bundler.repository import ceremony, signing
from bundler.repository.cards import key_card, read_secret_lines
from bundler.repository.keyring import LEDGER, ROLES, Keyring, Msp
from bundler.repository.publish import Publisher
from bundler.repository.roots import Roots, changed_root, first_root
from bundler.repository.rotation import PolicyChange, changed_policy, publish_merged, take_policy
from bundler.repository.sites import NewSite, add_site, open_repository, remove_site
from bundler.repository.survey import Captured
from bundler.repository.write import BundleWriter, Written
from bundler.terminal import Terminal

NOW, QUICK = datetime(2026, 11, 21, 12, tzinfo=UTC), 10
SERVICE = Service(
    "demo", "Demo", (), None, (), (), (), (), LadderSpec((), (), (), "", "", ""), LimitsSpec(1, 1, 1), None, ()
)


def stranger(tmp_path: Path, name: str = "stranger") -> Keyring:
    """Another MSP with a home of its own."""
    ring = Keyring(tmp_path / name, lambda: "their passphrase")
    ring.create(Msp("Stranger", "ef" * 16), QUICK)
    Roots(ring.home).add(first_root(ring, NOW), NOW)
    return ring


def write(publisher: Publisher, keyring: Keyring, tmp_path: Path, data: bytes = b"answers") -> Written:
    file = tmp_path / "content"
    file.write_bytes(data)
    captured = (Captured("content", file, "texts", "", "file:content", (), 1 << 20),)
    return BundleWriter(publisher, keyring, Terminal(quiet=True), 1 << 20).write("demo", captured, SERVICE, NOW)


def state(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("[!.]*") if path.is_file()}


ACTIONS: dict[str, Callable[[Publisher], object]] = {
    "resign": lambda publisher: publisher.resign(),
    "content": lambda publisher: publisher.drop_content([]),
    "policy": lambda publisher: publisher.allow(("https://ours.example:443",)),
    "request": lambda publisher: publisher.next_targets(publisher.policy()),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_a_stranger_s_metadata_in_the_folder_is_never_signed(
    tmp_path: Path, publisher: Publisher, keyring: Keyring, action: str
) -> None:
    """The builder starts from its own root: the stranger's software and hosts get no signature of ours."""
    theirs = Publisher(tmp_path / "theirs", stranger(tmp_path), NOW)
    theirs.create(("https://evil.example:443",))
    shutil.rmtree(publisher.folder / "metadata")
    shutil.copytree(theirs.folder / "metadata", publisher.folder / "metadata")
    before = state(publisher.folder)
    with pytest.raises(UnknownRoot):
        ACTIONS[action](publisher)
    assert state(publisher.folder) == before


@pytest.mark.parametrize("action", ACTIONS)
def test_another_msp_s_home_changes_nothing(tmp_path: Path, publisher: Publisher, action: str) -> None:
    """The wrong --home is refused before a byte is written."""
    ring = stranger(tmp_path)
    wrong, before = Publisher(publisher.folder, ring, NOW), state(publisher.folder)
    with pytest.raises(UnknownRoot, match="not signed by the MSP of this home"):
        ACTIONS[action](wrong)
    assert state(publisher.folder) == before
    publisher.resign()


def test_a_lost_timestamp_is_no_new_repository(tmp_path: Path, publisher: Publisher, keyring: Keyring) -> None:
    """Where bundles or later metadata lie, something was lost: nothing is made over it."""
    made = write(publisher, keyring, tmp_path)
    (publisher.folder / "metadata" / "timestamp.json").unlink()
    assert publisher.exists
    with pytest.raises(FileMissing):
        open_repository(publisher, keyring, lambda _: None)
    shutil.rmtree(publisher.folder / "metadata")
    assert publisher.exists
    with pytest.raises(FileMissing):
        open_repository(publisher, keyring, lambda _: None)
    assert (publisher.folder / "bundles" / made.descriptor.bundle / "index.age").exists()


def test_an_older_state_in_the_folder_is_refused(tmp_path: Path, publisher: Publisher, keyring: Keyring) -> None:
    """A genuine older timestamp would undo a revocation and let a sequence be used again."""
    made = write(publisher, keyring, tmp_path)
    path = publisher.folder / "metadata" / "timestamp.json"
    old = path.read_bytes()
    publisher.change_policy(changed_policy(publisher.policy(), PolicyChange(revoke=(made.descriptor.bundle,))))
    path.write_bytes(old)
    with pytest.raises(TooOld, match="this home has signed"):
        publisher.resign()


def test_a_clock_that_went_back_signs_nothing(publisher: Publisher, keyring: Keyring) -> None:
    """Boxes would take its signatures for expired; a day's difference between machines is fine."""
    publisher.resign()
    Publisher(publisher.folder, keyring, NOW - timedelta(hours=20)).resign()
    before = state(publisher.folder)
    with pytest.raises(BadInput, match="the clock says 2024"):
        Publisher(publisher.folder, keyring, NOW - timedelta(days=700)).resign()
    assert state(publisher.folder) == before


@pytest.mark.parametrize("days", [300, 600])
def test_expiry_never_locks_the_builder_out(publisher: Publisher, keyring: Keyring, days: int) -> None:
    """Signing anew is what mends expiry; with the release key at hand it renews the targets too."""
    later = Publisher(publisher.folder, keyring, NOW + timedelta(days=days))
    later.resign()
    assert later.trusted().expiries["targets"] > NOW + timedelta(days=days + 360)
    assert later.policy() == publisher.policy()


def test_without_the_release_key_targets_are_left(publisher: Publisher, keyring: Keyring) -> None:
    """A nightly job goes on while boxes take the targets, and is told when they would not any more."""
    (keyring.folder / "release.key").unlink()
    Publisher(publisher.folder, keyring, NOW + timedelta(days=300)).resign()
    with pytest.raises(LifeboatError, match="targets metadata expired"):
        Publisher(publisher.folder, keyring, NOW + timedelta(days=600)).resign()


ED25519 = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "aa"}}


def request(publisher: Publisher, keyring: Keyring, path: Path, *allow: str) -> Path:
    change = changed_policy(publisher.policy(), PolicyChange(allow=allow))
    take_policy(publisher, change, keyring, Roots(keyring.home), path)
    return path


def test_a_request_is_published_where_it_was_made(tmp_path: Path, publisher: Publisher, keyring: Keyring) -> None:
    """Signed targets of one customer are refused in another's repository."""
    other = Publisher(tmp_path / "other", keyring, NOW)
    other.create()
    asked = signing.read_request(request(publisher, keyring, tmp_path / "r.json", "https://a.example"))
    before = state(other.folder)
    with pytest.raises(BadInput, match="these targets are of repository"):
        publish_merged(asked, keyring, other.folder, NOW)
    assert state(other.folder) == before
    publish_merged(asked, keyring, publisher.folder, NOW)
    assert "https://a.example:443" in publisher.policy().egress


def test_an_old_request_undoes_nothing(tmp_path: Path, publisher: Publisher, keyring: Keyring) -> None:
    """What was decided since the request was made stays decided."""
    asked = signing.read_request(request(publisher, keyring, tmp_path / "r.json", "https://a.example"))
    publisher.change_policy(changed_policy(publisher.policy(), PolicyChange(revoke=("1-0001-0123abcd",))))
    with pytest.raises(BadInput, match="these targets are version 2, the repository has 2"):
        publish_merged(asked, keyring, publisher.folder, NOW)
    assert publisher.policy().revoked == ("1-0001-0123abcd",)


def altered(path: Path, change: dict[str, Any]) -> Path:
    """Rewrites fields of a request; a key with dots leads inwards."""
    value = json.loads(path.read_text())
    for name, new in change.items():
        *way, last = name.split("/")
        place = value["signed"]
        for step in way:
            place = place[step]
        place[last] = new
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"x-extra": 1}, "fields x-extra"),
        ({"version": 10**30}, "version"),
        ({"x-lifeboat-repository": "ab" * 16}, "another repository"),
        ({"x-lifeboat-policy/egress": ["https://evil.example:443\r\x1b[2Knobody"]}, "no scheme://host:port"),
        ({"targets": {"a\r\x1b[2K": {"length": 1, "hashes": {"sha256": "0" * 64}}}}, "path is not allowed"),
        ({"delegations/roles": []}, "others than content"),
        ({"delegations/keys": {"k": {**ED25519, "keyval": {"public": "aa", "x": 1.5}}}}, "no canonical form"),
        ({"delegations/keys": {"k": {**ED25519, "keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256"}}}, "is of type"),
    ],
)
def test_a_request_that_shows_less_than_it_asks_is_refused(
    tmp_path: Path, publisher: Publisher, keyring: Keyring, change: dict[str, Any], told: str
) -> None:
    """Nothing is signed that the description could not show, or that this program never writes."""
    path = altered(request(publisher, keyring, tmp_path / "r.json", "https://a.example"), change)
    with pytest.raises(BadInput, match=told):
        signing.read_request(path)


def test_another_key_under_a_known_id_is_refused(tmp_path: Path, publisher: Publisher, keyring: Keyring) -> None:
    """People compare ids: a request that keeps them and swaps the keys would hand everything over."""
    theirs, roots = stranger(tmp_path), Roots(keyring.home)
    metadata: Metadata[Root] = changed_root(roots.newest(), [], NOW)
    for duty in ("release", "refresh"):
        metadata.signed.keys[keyring.public(duty).keyid].keyval["public"] = theirs.public(duty).keyval["public"]
    path = tmp_path / "root.json"
    path.write_bytes(metadata.to_bytes())
    with pytest.raises(BadInput, match="another key stands under the id"):
        signing.read_request(path)
    metadata.sign(keyring.signer("root"))
    with pytest.raises(BadBundle, match="another key stands under the id"):
        roots.add(metadata.to_bytes(), NOW)
    targets: Metadata[Targets] = publisher.next_targets(publisher.policy())
    assert targets.signed.delegations is not None
    for key in targets.signed.delegations.keys.values():
        key.keyval["public"] = theirs.public("refresh").keyval["public"]
    path.write_bytes(targets.to_bytes())
    with pytest.raises(BadInput, match="another key stands under the id"):
        signing.read_request(path)


def test_software_is_described_by_its_digest(tmp_path: Path, publisher: Publisher, keyring: Keyring) -> None:
    """Two requests that differ in the bytes of `install.sh` alone look different."""
    targets = publisher.next_targets(publisher.policy())
    targets.signed.targets["install.sh"] = TargetFile(5, {"sha256": "ab" * 32}, "install.sh")
    lines = signing.describe(targets, Roots(keyring.home))
    assert f"software: install.sh, 5 bytes, SHA-256 {'ab' * 32}" in lines


def test_a_broken_signature_pushes_no_good_one_out(tmp_path: Path, publisher: Publisher, keyring: Keyring) -> None:
    """In whatever order the copies come, what holds is kept; the copies themselves are left."""
    roots = Roots(keyring.home)
    good = signing.read_request(request(publisher, keyring, tmp_path / "r.json", "https://a.example"))
    bad = signing.read_request(tmp_path / "r.json")
    for found in bad.signatures.values():
        found.signature = "00" * 64
    for parts in ([good, bad], [bad, good]):
        assert signing.count(signing.merge(parts, roots), roots).valid == 1
    assert signing.count(bad, roots).valid == 0


@pytest.mark.parametrize("name", ["aux", "con", "nul", "com1", "lpt9", "a b", "A", "", "../x"])
def test_a_site_that_no_reader_takes_is_not_made(publisher: Publisher, keyring: Keyring, name: str) -> None:
    """Device names of some systems would make the whole repository unreadable."""
    before = state(publisher.folder)
    with pytest.raises(BadInput):
        add_site(publisher, keyring, publisher.policy().repository, name, work_factor_log2=QUICK)
    assert state(publisher.folder) == before


def test_a_missing_ledger_is_not_an_empty_one(publisher: Publisher, keyring: Keyring) -> None:
    """Else a site that exists would be made again, and the card at the customer's would be void."""
    repository = publisher.policy().repository
    add_site(publisher, keyring, repository, "bristol", work_factor_log2=QUICK)
    enrolled = (publisher.folder / "sites/bristol/enroll.age").read_bytes()
    shutil.rmtree(keyring.home / "ledgers")
    with pytest.raises(NotReady, match="there is no ledger"):
        add_site(publisher, keyring, repository, "bristol", work_factor_log2=QUICK)
    assert (publisher.folder / "sites/bristol/enroll.age").read_bytes() == enrolled


def test_a_recovery_card_is_handed_out_by_whichever_run_makes_it(tmp_path: Path, keyring: Keyring) -> None:
    """A stop between repository and recovery site is mended by the next run; a removed site stays removed."""
    publisher = Publisher(tmp_path / "new", keyring, NOW)
    publisher.create()
    cards: list[NewSite] = []
    for _ in range(2):
        open_repository(publisher, keyring, cards.append, work_factor_log2=QUICK)
    assert [card.site for card in cards] == ["recovery"]
    with pytest.raises(BadInput, match="has a recovery site"):
        open_repository(publisher, keyring, cards.append, recovery=False)
    remove_site(publisher, keyring, "recovery")
    open_repository(publisher, keyring, cards.append, work_factor_log2=QUICK)
    assert len(cards) == 1


@pytest.mark.parametrize("how", ["revoke", "epoch"])
def test_unchanged_content_is_built_anew_where_it_may_not_be_installed(
    tmp_path: Path, publisher: Publisher, keyring: Keyring, how: str
) -> None:
    """The word that nothing changed is for a bundle that a box would take; volumes are used again."""
    first = write(publisher, keyring, tmp_path, b"x" * 5_000)
    change = PolicyChange(revoke=(first.descriptor.bundle,)) if how == "revoke" else PolicyChange(raise_epoch=True)
    publisher.change_policy(changed_policy(publisher.policy(), change))
    assert newest_descriptor(publisher.folder, publisher.trusted()) is None
    second = write(publisher, keyring, tmp_path, b"x" * 5_000)
    assert second.changed
    assert second.descriptor.volumes == first.descriptor.volumes
    assert newest_descriptor(publisher.folder, publisher.trusted()) == second.descriptor


def test_restored_keys_are_not_written_over(tmp_path: Path, keyring: Keyring, publisher: Publisher) -> None:
    """A home is rebuilt from cards and any repository; `init` in between is refused."""
    home = Keyring(tmp_path / "rebuilt", lambda: "correct horse")
    for name in (*ROLES, LEDGER):
        told = str(keyring.ledger_identity().recipient) if name == LEDGER else keyring.public(name).keyid
        card = key_card("Northquay", name, f"{name}.key", told, keyring.sealed(name))
        assert home.restore(name, read_secret_lines(card)) == told
    with pytest.raises(Busy):
        ceremony.make_keyring(home, Roots(home.home), "Northquay", NOW, QUICK)
    root = digest(publisher.first_root())
    assert ceremony.adopt(home, Roots(home.home), "Northquay", publisher.folder, root.upper(), NOW) == 1
    assert home.msp().id == keyring.msp().id
    assert Publisher(publisher.folder, home, NOW).policy() == publisher.policy()
    with pytest.raises(Busy):
        ceremony.adopt(home, Roots(home.home), "Northquay", publisher.folder, root, NOW)


@pytest.mark.parametrize("name", ["root", "../../escaped", "", "a b", "x/y"])
def test_a_card_restores_its_own_key_alone(tmp_path: Path, keyring: Keyring, name: str) -> None:
    """The release key's card is refused as any other key, and no name leads out of the keyring."""
    sealed, before = keyring.sealed("release"), keyring.public("root").keyid
    (keyring.folder / "root.key").unlink()
    with pytest.raises(BadInput):
        keyring.restore(name, sealed)
    assert keyring.public("root").keyid == before
    assert not list(tmp_path.rglob("escaped*"))


def test_the_passphrase_is_changed_for_all_keys(tmp_path: Path, keyring: Keyring, publisher: Publisher) -> None:
    """A call that was stopped is finished by the same call; the old passphrase opens nothing afterwards."""
    half = Keyring(keyring.home, lambda: "correct horse")
    half._passphrase = "a new passphrase"
    half._seal("release.key", Keyring(keyring.home, lambda: "correct horse").unseal("release.key"), QUICK)
    names = Keyring(keyring.home, lambda: "correct horse").change_passphrase(lambda: "a new passphrase", QUICK)
    assert set(names) == {*ROLES, LEDGER}
    fresh = Keyring(keyring.home, lambda: "a new passphrase")
    for name in ROLES:
        assert fresh.signer(name).public_key.keyid == keyring.public(name).keyid
    Publisher(publisher.folder, fresh, NOW).resign()
    with pytest.raises(WrongKey):
        Keyring(keyring.home, lambda: "correct horse").signer("root")
