import hashlib
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, TargetFile, Targets

from bundler.format.errors import BadBundle, FileMissing, MetadataExpired, TooOld, UnknownRoot
from bundler.format.trust.medium import check_file, find_root, load_repository
from bundler.format.trust.verify import Remembered, TrustedRepository, digest
from bundler.format.trust.verify import TargetFile as Listed
from bundler.repository.keyring import Keyring
from bundler.repository.publish import Publisher

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
FILE = Listed(5, hashlib.sha256(b"hello").hexdigest())
PATH = "bundles/1-0001-0123abcd/bundle.json"


def load(publisher: Publisher, **changes: Any) -> TrustedRepository:
    options: dict[str, Any] = {"repository": None, "now": NOW, "remembered": None, "root": publisher.first_root()}
    return load_repository(publisher.folder, **{**options, **changes})


def test_what_is_published_verifies(publisher: Publisher) -> None:
    """Policy, targets and versions come back as they were signed."""
    publisher.add_content({PATH: FILE})
    trusted = load(publisher)
    assert trusted.targets == {PATH: FILE}
    assert trusted.policy.egress == ("https://api.example.com:443",)
    assert trusted.made == NOW
    assert trusted.warnings == ()
    assert trusted.remembered().content_version == 2


@pytest.mark.parametrize("name", ["timestamp.json", "1.snapshot.json", "1.targets.json", "1.content.json"])
@pytest.mark.parametrize("place", [0, 40, 200, -3])
def test_a_flipped_byte_in_any_metadata_is_refused(
    publisher: Publisher, flip: Callable[[Path, int], None], name: str, place: int
) -> None:
    """Whatever byte changes, the medium is refused with a clear class."""
    flip(publisher.folder / "metadata" / name, place)
    with pytest.raises(BadBundle):
        load(publisher)


@pytest.mark.parametrize("name", ["timestamp.json", "1.snapshot.json", "1.targets.json", "1.content.json"])
def test_a_missing_file_is_named(publisher: Publisher, name: str) -> None:
    """Absence is its own error, with the file's name."""
    (publisher.folder / "metadata" / name).unlink()
    with pytest.raises(FileMissing, match=name):
        load(publisher)


def test_a_root_that_nobody_pinned_is_unknown(publisher: Publisher) -> None:
    """A stick with its own root is refused by the card's digest, and by a root that a box has pinned."""
    assert find_root(publisher.folder, digest(publisher.first_root())) == publisher.first_root()
    with pytest.raises(UnknownRoot):
        find_root(publisher.folder, "0" * 64)


def test_two_repositories_of_one_root_do_not_mix(tmp_path: Path, publisher: Publisher, keyring: Keyring) -> None:
    """Another customer's repository has valid signatures and is refused by its id."""
    mine = load(publisher).policy.repository
    other = Publisher(tmp_path / "other", keyring, NOW)
    other.create()
    with pytest.raises(BadBundle, match="is of repository"):
        load(other, repository=mine)
    shutil.copy(other.folder / "metadata/1.content.json", publisher.folder / "metadata/1.content.json")
    with pytest.raises(BadBundle):
        load(publisher)


def remembered(publisher: Publisher, **changes: Any) -> Remembered:
    return Remembered(**{**vars(load(publisher).remembered()), **changes})


@pytest.mark.parametrize(
    "field", ["root_version", "timestamp_version", "snapshot_version", "targets_version", "content_version"]
)
def test_older_than_remembered_is_refused(publisher: Publisher, field: str) -> None:
    """No role may fall below what this box has accepted; the same versions are fine."""
    load(publisher, remembered=remembered(publisher))
    with pytest.raises(TooOld):
        load(publisher, remembered=remembered(publisher, **{field: 9}))


@pytest.mark.parametrize(
    ("days", "outcome"),
    [(300, None), (320, "expires in"), (366, "expired 1 days"), (365 + 180, "expired"), (365 + 182, MetadataExpired)],
)
def test_expiry_warns_then_refuses(publisher: Publisher, days: int, outcome: Any) -> None:
    """An old stick still installs with a warning; 180 days after expiry it does not."""
    now = NOW + timedelta(days=days)
    if outcome is MetadataExpired:
        with pytest.raises(MetadataExpired, match=r"expired 18\d days ago"):
            load(publisher, now=now)
    else:
        assert any((outcome or "") in warning for warning in load(publisher, now=now).warnings) is (outcome is not None)


def test_a_rolled_back_clock_does_not_help(publisher: Publisher) -> None:
    """Trusted time never falls below the newest signed time."""
    later = (NOW + timedelta(days=365 + 200)).isoformat()
    with pytest.raises(MetadataExpired):
        load(publisher, now=NOW - timedelta(days=3000), remembered=remembered(publisher, signed_time=later))


FOREIGN = pytest.mark.parametrize(
    "path", ["install.sh", "runtime/1.0/wheel.whl", "bundles/x", "sites/a/other.age", "policy.json"]
)


@FOREIGN
@pytest.mark.usefixtures("unchecked")
def test_content_cannot_list_software(publisher: Publisher, path: str) -> None:
    """The refresh key, be it a thief's, can carry neither software nor anything outside its paths."""
    publisher.add_content({path: FILE})
    with pytest.raises(BadBundle, match="content lists what it may not"):
        load(publisher)


@FOREIGN
def test_the_builder_writes_nothing_that_a_box_would_refuse(publisher: Publisher, path: str) -> None:
    """It reads what it made as a box will, and a refusal leaves the repository as it was."""
    before = {file: file.read_bytes() for file in publisher.folder.rglob("*.json")}
    with pytest.raises(BadBundle, match="content lists what it may not"):
        publisher.add_content({path: FILE})
    assert {file: file.read_bytes() for file in publisher.folder.rglob("*.json")} == before


def forge(
    publisher: Publisher, keyring: Keyring, role: str, change: Callable[[Targets], None], content: dict[str, Listed]
) -> None:
    """Changes the targets, signs them with the key of `role`, and puts a consistent content and snapshot around."""
    numbers = publisher._numbers(load(publisher))
    path = publisher.folder / f"metadata/{numbers.targets}.targets.json"
    metadata: Metadata[Targets] = Metadata.from_file(str(path))
    repository = str(metadata.signed.unrecognized_fields["x-lifeboat-repository"])
    change(metadata.signed)
    metadata.sign(keyring.signer(role))
    path.write_bytes(metadata.to_bytes())
    publisher._publish(repository, None, content, numbers)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("role", "taken"), [("refresh", False), ("root", False), ("release", True)])
def test_only_release_signs_software(publisher: Publisher, keyring: Keyring, role: str, taken: bool) -> None:
    """A stolen refresh key with a whole consistent repository around it still ships no software."""

    def add_software(targets: Targets) -> None:
        targets.targets["install.sh"] = TargetFile(5, {"sha256": FILE.sha256}, "install.sh")

    forge(publisher, keyring, role, add_software, {})
    if taken:
        assert "install.sh" in load(publisher).targets
    else:
        with pytest.raises(BadBundle, match="targets metadata is not signed"):
            load(publisher)


@pytest.mark.usefixtures("unchecked")
def test_a_widened_delegation_does_not_help(publisher: Publisher, keyring: Keyring) -> None:
    """Even where release delegates everything by mistake, content lists no software."""

    def widen(targets: Targets) -> None:
        refresh = keyring.public("refresh")
        role = DelegatedRole("content", [refresh.keyid], 1, terminating=True, paths=["*"])
        targets.delegations = Delegations({refresh.keyid: refresh}, {"content": role})

    forge(publisher, keyring, "release", widen, {"install.sh": FILE})
    with pytest.raises(BadBundle, match="content lists what it may not"):
        load(publisher)


def rotated(publisher: Publisher, keyring: Keyring, signers: tuple[str, ...]) -> bytes:
    root = Metadata.from_bytes(publisher.first_root())
    root.signed.version = 2
    root.signatures.clear()
    for role in signers:
        root.sign(keyring.signer(role), append=True)
    return root.to_bytes()


def test_the_root_chain_is_followed(publisher: Publisher, keyring: Keyring) -> None:
    """A root signed by the old one is taken; one signed by another key, or out of turn, is not."""
    path = publisher.folder / "metadata/2.root.json"
    path.write_bytes(rotated(publisher, keyring, ("root",)))
    assert load(publisher).root_version == 2
    path.write_bytes(rotated(publisher, keyring, ("release", "refresh")))
    with pytest.raises(UnknownRoot):
        load(publisher)


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 50_000, b'{"signed":{"_type":"root"},"signatures":[]}'])
def test_bytes_that_are_no_metadata_are_refused(publisher: Publisher, data: bytes) -> None:
    """Bombs and fragments give BadBundle, never another exception."""
    (publisher.folder / "metadata/timestamp.json").write_bytes(data)
    with pytest.raises(BadBundle):
        load(publisher)


def test_a_file_is_checked_by_length_and_digest(tmp_path: Path) -> None:
    """Longer, shorter, changed and missing files are each refused."""
    (tmp_path / "f").write_bytes(b"hello")
    check_file(tmp_path, "f", FILE)
    for data in (b"hellO", b"hello!", b"hell"):
        (tmp_path / "f").write_bytes(data)
        with pytest.raises(BadBundle, match="not what was signed"):
            check_file(tmp_path, "f", FILE)
    with pytest.raises(FileMissing):
        check_file(tmp_path, "g", FILE)


def test_allow_widens_the_policy(publisher: Publisher) -> None:
    """A new host takes the release key and raises the targets; the old hosts stay."""
    publisher.allow(("http://127.0.0.1:9",))
    trusted = load(publisher)
    assert trusted.policy.egress == ("http://127.0.0.1:9", "https://api.example.com:443")
    assert trusted.remembered().targets_version == 2
