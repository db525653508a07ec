"""Who may sign: rotation of every kind of key, thresholds, signing by file, and cards that are typed back."""

from __future__ import annotations

import binascii
import hashlib
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bundler.files import FileLayer
from bundler.format.errors import (
    BadBundle,
    BadInput,
    Busy,
    NotReady,
    NotSigned,
    TooOld,
    UnknownRoot,
    WrongKey,
)
from bundler.format.trust.medium import load_repository
from bundler.format.trust.verify import Remembered, TargetFile, TrustedRepository
from bundler.repository import signing
from bundler.repository.cards import key_card, read_secret_lines, secret_lines
from bundler.repository.keyring import Keyring
from bundler.repository.publish import Publisher
from bundler.repository.roots import Change, Roots, changed_root
from bundler.repository.rotation import (
    PolicyChange,
    changed_policy,
    full_key_ids,
    publish_merged,
    take_policy,
    take_root,
)

NOW, QUICK = datetime(2026, 11, 21, 12, tzinfo=UTC), 10
FILE = TargetFile(5, hashlib.sha256(b"hello").hexdigest())
PATH = "bundles/1-0001-0123abcd/bundle.json"


def load(publisher: Publisher, remembered: Remembered | None = None, root: bytes | None = None) -> TrustedRepository:
    return load_repository(
        publisher.folder, root=root or publisher.first_root(), repository=None, now=NOW, remembered=remembered
    )


def replace_key(keyring: Keyring, duty: str) -> None:
    """Gives a duty to a fresh key and takes it from the old one, as after a theft."""
    roots = Roots(keyring.home)
    fresh = keyring.new_key(f"{duty}-new", QUICK)
    change = Change(duty, [fresh], [keyring.public(duty).keyid])
    taken = take_root(changed_root(roots.newest(), [change], NOW), keyring, roots, None, NOW)
    assert taken.request is None


@pytest.mark.parametrize("duty", ["root", "release", "refresh"])
def test_each_kind_of_key_can_be_replaced(publisher: Publisher, keyring: Keyring, duty: str) -> None:
    """A box that knows the first root follows; content and policy stay; the old key signs nothing any more."""
    publisher.add_content({PATH: FILE})
    before = load(publisher)
    replace_key(keyring, duty)
    (keyring.folder / f"{duty}.key").unlink()
    publisher.resign()
    after = load(publisher, before.remembered())
    assert after.root_version == 2
    assert after.targets == before.targets
    assert after.policy == before.policy
    Publisher(publisher.folder, Keyring(keyring.home, lambda: "correct horse"), NOW).add_content({PATH: FILE})
    load(publisher, after.remembered())


@pytest.mark.parametrize("duty", ["release", "refresh"])
def test_a_key_that_was_taken_away_signs_nothing(
    tmp_path: Path, publisher: Publisher, keyring: Keyring, duty: str
) -> None:
    """The thief's own chain ends at the old root; a box that has seen the new one refuses it."""
    shutil.copytree(keyring.home, tmp_path / "thief")
    shutil.copytree(publisher.folder, tmp_path / "copy")
    replace_key(keyring, duty)
    publisher.resign()
    after = load(publisher)
    new_root = (publisher.folder / "metadata/2.root.json").read_bytes()
    thief = Publisher(tmp_path / "copy", Keyring(tmp_path / "thief", lambda: "correct horse"), NOW)
    for number in range(4):  # above every version that the box has seen: only the signatures are wrong
        thief.allow((f"https://evil{number}.example:443",))
    for path in (tmp_path / "copy" / "metadata").iterdir():
        shutil.copy(path, publisher.folder / "metadata" / path.name)
    with pytest.raises(NotSigned):
        load(publisher, after.remembered(), new_root)


def test_versions_that_a_stolen_key_raised_are_forgotten(publisher: Publisher, keyring: Keyring) -> None:
    """Fast-forward: after the refresh key is replaced, a box takes the true, lower versions again [TUF 5.3.11]."""
    true = load(publisher).remembered()
    raised = Remembered(
        **{**vars(true), "timestamp_version": 2**31, "snapshot_version": 2**31, "content_version": 2**31}
    )
    with pytest.raises(TooOld):
        load(publisher, raised)
    replace_key(keyring, "refresh")
    publisher.resign()
    assert load(publisher, raised).remembered().timestamp_version == true.timestamp_version + 1
    with pytest.raises(TooOld):
        load(publisher, Remembered(**{**vars(raised), "targets_version": 2**31}))


def test_a_renewed_root_forgets_nothing(publisher: Publisher, keyring: Keyring) -> None:
    """A root with the same keys and a later expiry is no rotation."""
    roots = Roots(keyring.home)
    take_root(changed_root(roots.newest(), [], NOW), keyring, roots, None, NOW)
    publisher.resign()
    with pytest.raises(TooOld):
        load(publisher, Remembered(**{**vars(load(publisher).remembered()), "snapshot_version": 2**31}))


def test_a_stop_between_root_and_timestamp_is_mended(publisher: Publisher, keyring: Keyring) -> None:
    """A box refuses the half state; the builder's next write completes it."""
    replace_key(keyring, "refresh")
    old = (publisher.folder / "metadata/timestamp.json").read_bytes()
    signed = {path: path.read_bytes() for path in keyring.home.glob("ledgers/*.signed")}
    publisher.resign()
    (publisher.folder / "metadata/timestamp.json").write_bytes(old)
    for path, data in signed.items():
        path.write_bytes(data)
    with pytest.raises(BadBundle):
        load(publisher)
    publisher.add_content({PATH: FILE})
    assert set(load(publisher).targets) == {PATH}


class StopsBeforeTheTimestamp(FileLayer):
    """A power cut just before the last step of a publication."""

    def rename(self, source: Path, target: Path) -> None:
        if target.name == "timestamp.json":
            raise OSError(5, "Input/output error")
        super().rename(source, target)


def test_a_stopped_create_is_made_again_under_rotated_roots(tmp_path: Path, keyring: Keyring) -> None:
    """Later roots in the folder are the MSP's and no sign of a repository: the same command then makes it."""
    replace_key(keyring, "release")
    with pytest.raises(OSError, match="Input/output"):
        Publisher(tmp_path / "repo", keyring, NOW, StopsBeforeTheTimestamp()).create()
    assert (tmp_path / "repo/metadata/2.root.json").exists()
    publisher = Publisher(tmp_path / "repo", keyring, NOW)
    assert not publisher.exists
    publisher.create()
    assert load(publisher).root_version == 2
    (publisher.folder / "metadata/timestamp.json").unlink()
    (publisher.folder / "metadata/2.snapshot.json").touch()
    assert publisher.exists  # later metadata of a repository that lost its timestamp still counts


def other_person(tmp_path: Path, keyring: Keyring, name: str) -> Keyring:
    """A second keyring on another machine, with one key of its own and the same roots."""
    ring = Keyring(tmp_path / name, lambda: name)
    ring.create(keyring.msp(), QUICK)
    for number, data in enumerate(Roots(keyring.home).all(), 1):
        target = ring.home / "roots" / f"{number}.root.json"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(data)
    return ring


@pytest.mark.parametrize("duty", ["root", "release"])
def test_two_of_two_sign_by_file(tmp_path: Path, publisher: Publisher, keyring: Keyring, duty: str) -> None:
    """With a threshold of two, one person alone publishes nothing; two copies of a request join."""
    roots = Roots(keyring.home)
    anna = other_person(tmp_path, keyring, "anna")
    change = Change(duty, [anna.public(duty)], threshold=2)
    first = changed_root(roots.newest(), [change], NOW)
    request = tmp_path / "request.json"
    if duty == "root":  # the new root must be signed by its own two keys
        with pytest.raises(NotReady, match="1 of 2"):
            take_root(first, keyring, roots, None, NOW)
        taken = take_root(first, keyring, roots, request, NOW)
        assert (taken.valid, taken.needed) == (1, 2)
        copy = signing.read_request(request)
        assert signing.sign(copy, anna, Roots(anna.home))
        merged = signing.merge([signing.read_request(request), copy], Roots(keyring.home))
        assert "root version 2" in publish_merged(merged, keyring, None, NOW)
        publisher.resign()
        assert load(publisher).root_version == 2
        return
    take_root(first, keyring, roots, None, NOW)
    Roots(anna.home).add(roots.all()[-1], NOW)
    with pytest.raises(NotReady, match="needs 2 signatures, 1 can be made"):
        publisher.allow(("https://b.example:443",))
    policy = changed_policy(publisher.policy(), PolicyChange(revoke=("1-0001-0123abcd",)))
    take_policy(publisher, policy, keyring, roots, request)
    with pytest.raises(NotReady, match="1 of 2"):
        publish_merged(signing.read_request(request), keyring, publisher.folder, NOW)
    copy = signing.read_request(request)
    signing.sign(copy, anna, Roots(anna.home))
    publish_merged(
        signing.merge([signing.read_request(request), copy], Roots(keyring.home)), keyring, publisher.folder, NOW
    )
    assert load(publisher).policy.revoked == ("1-0001-0123abcd",)


def test_copies_of_different_requests_do_not_join(publisher: Publisher, keyring: Keyring) -> None:
    """Signatures over one text never count for another."""
    one = publisher.next_targets(publisher.policy())
    two = publisher.next_targets(changed_policy(publisher.policy(), PolicyChange(allow=("https://c.example",))))
    with pytest.raises(BadInput, match="not copies of one request"):
        signing.merge([one, two], Roots(keyring.home))


def test_a_request_is_told_in_words(publisher: Publisher, keyring: Keyring) -> None:
    """Who signs sees hosts, revocations and keys, read from the bytes that will be signed."""
    roots = Roots(keyring.home)
    policy = changed_policy(publisher.policy(), PolicyChange(("1-0001-0123abcd",), ("https://c.example/v1",)))
    words = "\n".join(signing.describe(publisher.next_targets(policy), roots))
    assert "https://c.example:443" in words
    assert "revoked: 1-0001-0123abcd" in words
    fresh = keyring.new_key("anna", QUICK)
    words = "\n".join(signing.describe(changed_root(roots.newest(), [Change("release", [fresh])], NOW), roots))
    assert f"+{fresh.keyid[:16]}" in words


@pytest.mark.parametrize(
    "make",
    [
        lambda ring: Change("release", [], [ring.public("release").keyid]),
        lambda ring: Change("root", threshold=2),
        lambda ring: Change("refresh", [], ["00" * 32]),
    ],
)
def test_a_root_that_nobody_could_satisfy_is_refused(keyring: Keyring, make: Callable[[Keyring], Change]) -> None:
    """No duty without a key, no threshold above the keys, no unknown key."""
    with pytest.raises(BadInput):
        changed_root(Roots(keyring.home).newest(), [make(keyring)], NOW)


def test_the_chain_takes_no_foreign_root(tmp_path: Path, keyring: Keyring) -> None:
    """Another MSP's root, and a version that is there already, are refused."""
    roots = Roots(keyring.home)
    renewed = changed_root(roots.newest(), [], NOW)
    stranger = other_person(tmp_path, keyring, "stranger")
    renewed.sign(stranger.signer("root"))
    with pytest.raises(UnknownRoot):
        roots.add(renewed.to_bytes(), NOW)
    with pytest.raises(Busy):
        roots.add(roots.all()[0], NOW)


def test_a_key_id_may_be_shortened(keyring: Keyring) -> None:
    """As on a card; what names no key or any key is refused."""
    newest, keyid = Roots(keyring.home).newest(), keyring.public("release").keyid
    assert full_key_ids(newest, "release", [keyid[:12]]) == [keyid]
    with pytest.raises(BadInput):
        full_key_ids(newest, "root", [keyid[:12]])


@pytest.mark.parametrize(
    "change",
    [PolicyChange(forbid=("https://x.example",)), PolicyChange(min_sequence=1), PolicyChange(allow=("ftp://x",))],
)
def test_policies_that_make_no_sense_are_refused(publisher: Publisher, change: PolicyChange) -> None:
    """The least sequence never falls; what is not allowed cannot be forbidden; only http and https have origins."""
    policy = changed_policy(publisher.policy(), PolicyChange(min_sequence=5))
    with pytest.raises(BadInput):
        changed_policy(policy, change)


def test_a_raised_epoch_starts_a_new_count(publisher: Publisher) -> None:
    """Epoch rises by one and the least sequence begins again."""
    policy = changed_policy(
        changed_policy(publisher.policy(), PolicyChange(min_sequence=5)), PolicyChange(raise_epoch=True)
    )
    assert (policy.epoch, policy.min_sequence) == (2, 1)


def test_a_key_is_typed_back_from_its_card(tmp_path: Path, keyring: Keyring) -> None:
    """The card holds the encrypted key; a mistyped line is named, and without the passphrase it is of no use."""
    public = keyring.public("root")
    card = key_card("Northquay", "root", "root.key", public.keyid, keyring.sealed("root"))
    assert all(len(line) <= 72 for line in card.splitlines())
    other = Keyring(tmp_path / "other", lambda: "correct horse")
    assert other.restore("root", read_secret_lines(card)) == public.keyid
    assert other.signer("root").public_key.keyid == public.keyid
    with pytest.raises(Busy):
        other.restore("root", read_secret_lines(card))
    with pytest.raises(WrongKey):
        Keyring(tmp_path / "third", lambda: "wrong").restore("root", read_secret_lines(card))
    assert not (tmp_path / "third").exists()


def test_every_mistyped_letter_of_a_card_is_found() -> None:
    """Line by line, with the number of the line; a missing line too."""
    lines = secret_lines(bytes(range(200)))
    for place, line in enumerate(lines):
        for column in (6, 20, len(line) - 6):
            letter = "A" if line[column] != "A" else "B"
            wrong = [*lines]
            wrong[place] = line[:column] + letter + line[column + 1 :]
            with pytest.raises(BadInput, match=f"line {place + 1:02d}"):
                read_secret_lines("\n".join(wrong))
        with pytest.raises(BadInput, match=f"missing: {place + 1:02d}"):
            read_secret_lines("\n".join(lines[:place] + lines[place + 1 :]))
    assert read_secret_lines("\n".join(reversed(lines))) == bytes(range(200))


def test_right_lines_that_are_no_card_are_refused() -> None:
    """Found by fuzzing: number and checksum fit, and the text is no whole base32."""
    line = f"01/01 A {binascii.crc_hqx(b'01/01 A', 0):04x}"
    with pytest.raises(BadInput, match="do not make one card"):
        read_secret_lines(line)
