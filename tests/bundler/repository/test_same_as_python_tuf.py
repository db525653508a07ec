"""Our verification against python-tuf's own client, on repositories that we publish: the same verdict on every case.

Cases are named after the steps of the TUF specification 1.0.33, section 5. What differs on purpose (expiry, see
SPEC.md 3.11) stands at the end with both verdicts.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.api.metadata import Metadata, Root, TargetFile
from tuf.ngclient.updater import Updater

from bundler.format.errors import LifeboatError
from bundler.format.trust.medium import check_file, load_repository
from bundler.format.trust.verify import Remembered, digest
from bundler.format.trust.verify import TargetFile as Listed
from bundler.repository.keyring import Keyring
from bundler.repository.publish import Publisher
from bundler.repository.roots import Change, Roots, changed_root
from bundler.repository.rotation import take_root

QUICK = 10
Client = Callable[[Path, bytes, Path], Updater]
PATH = "bundles/1-0001-0123abcd/index.age"


class Case:
    """A repository with one content file, both clients having accepted it once; then something changes."""

    def __init__(self, publisher: Publisher, keyring: Keyring, scratch: Path, client: Client) -> None:
        self.publisher, self.keyring, self.scratch = publisher, keyring, scratch
        self._client = client
        self.folder, self.metadata = publisher.folder, publisher.folder / "metadata"
        target = self.folder / PATH
        target.parent.mkdir(parents=True)
        target.write_bytes(b"hello")
        publisher.add_content({PATH: Listed(5, digest(b"hello"))})
        self.first = shutil.copytree(self.metadata, scratch / "first")
        self.root = publisher.first_root()
        self.remembered: Remembered | None = self._ours(None).remembered()
        self._theirs()

    def _ours(self, remembered: Any) -> Any:
        trusted = load_repository(
            self.folder, root=self.root, repository=None, now=datetime.now(UTC), remembered=remembered
        )
        for path, target in trusted.targets.items():
            check_file(self.folder, path, target)
        return trusted

    def _theirs(self) -> None:
        shutil.rmtree(self.scratch / "local" / "files", ignore_errors=True)
        updater = self.client()
        updater.refresh()
        info = updater.get_targetinfo(PATH)
        if info is not None:
            updater.download_target(info)

    def client(self) -> Updater:
        """python-tuf's, with what it has seen so far."""
        return self._client(self.folder, self.root, self.scratch / "local")

    def ours_accepts(self) -> bool:
        try:
            self._ours(self.remembered)
        except LifeboatError:
            return False
        return True

    def theirs_accepts(self) -> bool:
        try:
            self._theirs()
        except (RepositoryError, DownloadError):
            return False
        return True

    def edit(self, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        path = self.newest(name)
        document = json.loads(path.read_text())
        change(document)
        path.write_text(json.dumps(document))

    def newest(self, name: str) -> Path:
        return max(self.metadata.glob(f"*{name}.json"), key=lambda path: (len(path.name), path.name))

    def update(self) -> None:
        """A second, honest update."""
        self.publisher.add_content({PATH: Listed(5, digest(b"hello"))})


@pytest.fixture
def case(tmp_path: Path, keyring: Keyring, their_client: Client) -> Case:
    publisher = Publisher(tmp_path / "now", keyring, datetime.now(UTC))
    publisher.create()
    (tmp_path / "scratch").mkdir()
    return Case(publisher, keyring, tmp_path / "scratch", their_client)


def nothing(_: Case) -> None:
    pass


def update(case: Case) -> None:
    case.update()


def renewed_root(case: Case) -> None:
    roots = Roots(case.keyring.home)
    take_root(changed_root(roots.newest(), [], datetime.now(UTC)), case.keyring, roots, None, datetime.now(UTC))
    case.update()


def replaced_refresh(case: Case) -> None:
    roots, ring = Roots(case.keyring.home), case.keyring
    change = Change("refresh", [ring.new_key("fresh", QUICK)], [ring.public("refresh").keyid])
    take_root(changed_root(roots.newest(), [change], datetime.now(UTC)), ring, roots, None, datetime.now(UTC))
    case.update()


def root_of(case: Case, signers: tuple[str, ...], version: int = 2) -> None:
    metadata: Metadata[Root] = Metadata.from_bytes(case.root)
    metadata.signed.version = version
    metadata.signatures.clear()
    for name in signers:
        metadata.sign(case.keyring.signer(name), append=True)
    (case.metadata / "2.root.json").write_bytes(metadata.to_bytes())


def root_signed_by_others(case: Case) -> None:
    root_of(case, ("release", "refresh"))


def root_of_wrong_version(case: Case) -> None:
    root_of(case, ("root",), version=3)


def root_of_same_version(case: Case) -> None:
    root_of(case, ("root",), version=1)


def root_not_signed_by_itself(case: Case) -> None:
    metadata: Metadata[Root] = Metadata.from_bytes(case.root)
    metadata.signed.version = 2
    stranger = CryptoSigner.generate_ed25519().public_key
    metadata.signed.revoke_key(metadata.signed.roles["root"].keyids[0], "root")
    metadata.signed.add_key(stranger, "root")
    metadata.sign(case.keyring.signer("root"))
    (case.metadata / "2.root.json").write_bytes(metadata.to_bytes())


def root_that_is_no_root(case: Case) -> None:
    shutil.copy(case.metadata / "timestamp.json", case.metadata / "2.root.json")


def unsigned(name: str) -> Callable[[Case], None]:
    return lambda case: case.edit(name, lambda document: document.update(signatures=[]))


def signed_by(name: str, key: str) -> Callable[[Case], None]:
    def change(case: Case) -> None:
        path = case.newest(name)
        metadata: Metadata[Any] = Metadata.from_bytes(path.read_bytes())
        metadata.sign(case.keyring.signer(key))
        path.write_bytes(metadata.to_bytes())

    return change


def replayed(name: str) -> Callable[[Case], None]:
    """Puts a file of the first state in place of the newest of the same role, after an update that both accepted."""

    def change(case: Case) -> None:
        case.update()
        assert case.theirs_accepts()
        case.remembered = case._ours(case.remembered).remembered()
        old = max(case.first.glob(f"*{name}.json"), key=lambda path: (len(path.name), path.name))
        case.newest(name).write_bytes(old.read_bytes())

    return change


def whole_state_replayed(case: Case) -> None:
    case.update()
    assert case.theirs_accepts()
    case.remembered = case._ours(case.remembered).remembered()
    shutil.rmtree(case.metadata)
    shutil.copytree(case.first, case.metadata)


def missing(name: str) -> Callable[[Case], None]:
    def change(case: Case) -> None:
        case.update()
        case.newest(name).unlink()

    return change


def changed_target(data: bytes) -> Callable[[Case], None]:
    def change(case: Case) -> None:
        (case.folder / PATH).write_bytes(data)

    return change


def no_target(case: Case) -> None:
    (case.folder / PATH).unlink()


def oversized(name: str, length: int) -> Callable[[Case], None]:
    def change(case: Case) -> None:
        case.update()
        case.edit(name, lambda document: document.update(padding="x" * length))

    return change


def resigned_snapshot(change: Callable[[Any], None]) -> Callable[[Case], None]:
    """Changes the snapshot as a thief of the refresh key, with a fitting timestamp."""

    def run(case: Case) -> None:
        snapshot: Metadata[Any] = Metadata.from_bytes(case.newest("snapshot").read_bytes())
        timestamp: Metadata[Any] = Metadata.from_bytes((case.metadata / "timestamp.json").read_bytes())
        change(snapshot.signed)
        snapshot.signed.version += 1
        snapshot.sign(case.keyring.signer("refresh"))
        data = snapshot.to_bytes()
        (case.metadata / f"{snapshot.signed.version}.snapshot.json").write_bytes(data)
        meta = timestamp.signed.snapshot_meta
        meta.version, meta.length, meta.hashes = snapshot.signed.version, len(data), {"sha256": digest(data)}
        timestamp.signed.version += 1
        timestamp.sign(case.keyring.signer("refresh"))
        (case.metadata / "timestamp.json").write_bytes(timestamp.to_bytes())

    return run


def new_client(change: Callable[[Case], None]) -> Callable[[Case], None]:
    """The change met on first contact: python-tuf does not fetch again what its cache holds in the same version."""

    def run(case: Case) -> None:
        change(case)
        case.remembered = None
        shutil.rmtree(case.scratch / "local")

    return run


def targets_version_lowered(signed: Any) -> None:
    signed.meta["targets.json"].version = 0


def content_dropped(signed: Any) -> None:
    del signed.meta["content.json"]


def content_version_raised(signed: Any) -> None:
    signed.meta["content.json"].version += 1


CASES: dict[str, tuple[Callable[[Case], None], bool]] = {
    "nothing changed": (nothing, True),
    "an honest update": (update, True),
    "5.3 a renewed root": (renewed_root, True),
    "5.3.11 a replaced refresh key": (replaced_refresh, True),
    "5.3.4 arbitrary software attack on root": (root_signed_by_others, False),
    "5.3.4 a root that its own keys did not sign": (root_not_signed_by_itself, False),
    "5.3.5 rollback attack on root: a version is skipped": (root_of_wrong_version, False),
    "5.3.5 rollback attack on root: the same version": (root_of_same_version, False),
    "5.3.3 another role's metadata as root": (root_that_is_no_root, False),
    "5.4.2 arbitrary software attack on timestamp: no signature": (unsigned("timestamp"), False),
    "5.4.2 arbitrary software attack on timestamp: another key": (signed_by("timestamp", "release"), False),
    "5.4.3 rollback attack on timestamp": (replayed("timestamp"), False),
    "5.4.1 endless data attack on timestamp": (oversized("timestamp", 2_000_000), False),
    "5.4 no timestamp": (missing("timestamp"), False),
    "5.5.2 snapshot is not what timestamp names": (new_client(replayed("snapshot")), False),
    "5.5.3 arbitrary software attack on snapshot": (new_client(signed_by("snapshot", "release")), False),
    "5.5.3 no signature on snapshot": (new_client(unsigned("snapshot")), False),
    "5.5.5 rollback attack on targets by snapshot": (resigned_snapshot(targets_version_lowered), False),
    "5.5.5 a role disappears from snapshot": (resigned_snapshot(content_dropped), False),
    "5.6.4 snapshot names another version of content": (resigned_snapshot(content_version_raised), False),
    "5.5 no snapshot": (missing("snapshot"), False),
    "5.6.2 targets is not what snapshot names": (new_client(signed_by("targets", "refresh")), False),
    "5.6.3 no signature on targets": (new_client(unsigned("targets")), False),
    "5.6 no targets": (new_client(missing("targets")), False),
    "5.6.7 content is not what snapshot names": (new_client(replayed("content")), False),
    "5.6.7 no signature on content": (new_client(unsigned("content")), False),
    "5.6.7 no content": (missing("content"), False),
    "mix and match, replay of a whole older state": (whole_state_replayed, False),
    "5.7.3 a target of other bytes": (changed_target(b"hallo"), False),
    "5.7.3 a shorter target": (changed_target(b"hell"), False),
    "5.7.3 endless data attack on a target": (changed_target(b"hello" * 1000), False),
    "5.7.3 no target": (no_target, False),
}


@pytest.mark.parametrize("name", CASES)
def test_the_verdict_is_the_same(case: Case, name: str) -> None:
    """Both accept, or both refuse."""
    change, accepted = CASES[name]
    change(case)
    assert (case.ours_accepts(), case.theirs_accepts()) == (accepted, accepted)


def test_only_expiry_differs_and_on_purpose(tmp_path: Path, keyring: Keyring, their_client: Client) -> None:
    """A stick is old: expired timestamp, snapshot, targets and content warn us and stop python-tuf."""
    past = datetime.now(UTC) - timedelta(days=400)
    publisher = Publisher(tmp_path / "old", keyring, past)
    publisher.create()
    trusted = load_repository(
        publisher.folder, root=publisher.first_root(), repository=None, now=datetime.now(UTC), remembered=None
    )
    assert len(trusted.warnings) == 4
    updater = their_client(publisher.folder, publisher.first_root(), tmp_path / "local")
    with pytest.raises(RepositoryError):
        updater.refresh()


@pytest.mark.usefixtures("unchecked")
def test_python_tuf_holds_the_delegation_too(case: Case) -> None:
    """Content that lists software is never taken by either: their delegation paths say the same as our own check."""
    publisher = case.publisher
    publisher.add_content({PATH: Listed(5, digest(b"hello")), "install.sh": Listed(5, digest(b"hello"))})
    (case.folder / "install.sh").write_bytes(b"hello")
    assert not case.ours_accepts()
    updater = case.client()
    assert updater.get_targetinfo("install.sh") is None
    assert isinstance(updater.get_targetinfo(PATH), TargetFile)
