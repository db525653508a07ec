"""Documents in real bundles: written, signed, copied, verified, and no reason for a bundle of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from bundler.format.errors import BadBundle, BadInput
from bundler.format.service import LadderSpec, LimitsSpec, Service
from bundler.format.trust.verify import TargetFile, digest
from bundler.inspection import summaries, verify
from bundler.plan import Found
from bundler.profile.model import LicenceRules, Profile
from bundler.profile.read import parse_profile
from bundler.provenance import documents, shown
from bundler.provenance.documents import Documents
from bundler.provenance.licences import travels_no_more
from bundler.repository.copy import copy_for_sites
from bundler.repository.keyring import Keyring
from bundler.repository.ledger import read_ledger
from bundler.repository.publish import Publisher
from bundler.repository.sites import add_site
from bundler.repository.survey import Captured
from bundler.repository.write import BundleWriter, Written
from bundler.terminal import Terminal

NOW = datetime(2026, 11, 22, 4, tzinfo=UTC)
SERVICE = Service(
    "demo", "Demo", (), None, (), (), (), (), LadderSpec((), (), (), "", "", ""), LimitsSpec(1, 1, 1), None, ()
)
MODEL = "wheel:tiny==1.0/tiny/tiny.gguf"
QUIET = Terminal(quiet=True)
Write = Callable[..., Written]


def profile(folder: Path, *public: str) -> Profile:
    upstream = {"name": "cloud", "base_url": "https://api.example.com/v1", "model": "large"}
    values = {"bundle": {"name": "demo", "title": "Demo", "public": list(public)}, "upstream": [upstream]}
    return parse_profile(values, folder, "demo.toml", {})


@pytest.fixture
def write(tmp_path: Path, publisher: Publisher, keyring: Keyring) -> Write:
    (tmp_path / "work").mkdir()

    def made(
        *public: str,
        faq: str = "one",
        base: Path | None = None,
        into: Publisher = publisher,
        rules: LicenceRules = LicenceRules(None, ()),  # noqa: B008 - frozen
    ) -> Written:
        read = profile(tmp_path, *public)
        (tmp_path / "faq.jsonl").write_text(faq)
        (tmp_path / "tiny.gguf").write_bytes(b"weights" * 1_000)
        found = (Found("model", MODEL, 7_000, "1" * 64, "MIT"), Found("faq", "file:faq.jsonl", 3, "", ""))
        captured = (
            Captured("models/tiny.gguf", tmp_path / "tiny.gguf", "gguf", "MIT", MODEL, (), 1_000),
            Captured("faq/desk/faq.jsonl", tmp_path / "faq.jsonl", "faq", "", "file:faq.jsonl", (), 1_000),
        )
        trusted = into.trusted()
        about = Documents(read, "0" * 64, found, keyring, trusted.policy.repository, trusted.targets, tmp_path / "work")
        unwanted = partial(travels_no_more, rules)
        writer = BundleWriter(into, keyring, QUIET, 1 << 20, base, about=about, unwanted=unwanted)
        return writer.write("demo", captured, SERVICE, NOW)

    return made


def test_every_bundle_holds_both(write: Write, publisher: Publisher, keyring: Keyring) -> None:
    """Inside, encrypted; nothing lies in the open unless the profile says so."""
    written = write()
    folder = publisher.folder

    def keys(repository: str) -> dict[str, str]:
        return read_ledger(keyring, repository).identities

    told = json.loads(shown.inside(folder, None, None, "provenance", keys, NOW))
    assert told["subject"][0]["digest"] == {"lifeboatContentV1": written.content_sha256}
    told = json.loads(shown.inside(folder, None, None, "sbom", keys, NOW))
    assert {"tiny", "faq/desk/faq.jsonl"} == {component["name"] for component in told["components"]}
    assert sorted(path.name for path in (folder / "bundles" / written.descriptor.bundle).iterdir()) == [
        "bundle.json",
        "index.age",
        "vol",
    ]
    with pytest.raises(BadInput, match="lists no"):
        shown.beside(folder, None, None, "sbom", NOW)
    assert summaries(folder, None, keys, NOW)[0].content_sha256 == written.content_sha256


def test_what_lies_in_the_open_is_signed_copied_and_verified(
    write: Write, publisher: Publisher, keyring: Keyring, tmp_path: Path
) -> None:
    """Targets like any other file: a stick has them, `verify` reads them, and a changed byte is found."""
    written = write("sbom", "provenance", "licences")
    add_site(publisher, keyring, publisher.policy().repository, "bristol", work_factor_log2=10)
    medium = tmp_path / "stick"
    with publisher.locked():
        copy_for_sites(publisher, keyring, ["bristol"], medium, QUIET, now=NOW)
    for document in ("sbom", "provenance", "licences"):
        assert shown.beside(medium, None, None, document, NOW)
    verified = verify(medium, None, lambda repository: read_ledger(keyring, repository).identities, NOW, QUIET)
    assert verified.deep
    bom = medium / "bundles" / written.descriptor.bundle / "sbom.cdx.json"
    bom.write_bytes(bom.read_bytes().replace(b"tiny", b"tony"))
    with pytest.raises(BadBundle, match="not what was signed"):
        shown.beside(medium, None, None, "sbom", NOW)
    with pytest.raises(BadBundle, match="not what was signed"):
        verify(medium, None, None, NOW, QUIET)


def test_another_builder_version_is_no_reason_for_a_bundle(
    write: Write, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The content is the same, so the bundle stays; a new wish for what is shown, or other content, makes one."""
    first = write()
    monkeypatch.setattr(documents, "__version__", "9.9.9")
    again = write()
    assert (again.changed, again.content_sha256) == (False, first.content_sha256)
    opened = write("sbom")
    assert opened.changed
    assert opened.content_sha256 == first.content_sha256
    assert not write("sbom").changed
    assert write("sbom", faq="two").content_sha256 != first.content_sha256


def test_a_program_that_was_added_since_is_told(write: Write, publisher: Publisher, keyring: Keyring) -> None:
    """The bill of materials names what the repository carries, so other software is another bill."""
    first = write()
    wheel = publisher.folder / "runtime" / "0.2.0" / "click-8.1-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    wheel.write_bytes(b"wheel")
    targets = publisher.next_targets(publisher.policy())
    listed = TargetFile(5, digest(b"wheel"))
    path = "runtime/0.2.0/click-8.1-py3-none-any.whl"
    from tuf.api.metadata import TargetFile as Signed  # the one that metadata holds

    targets.signed.targets[path] = Signed(listed.length, {"sha256": listed.sha256}, path)
    role = publisher._roots.newest().signed.roles["targets"]
    for signer in keyring.signers(role.keyids):
        targets.sign(signer, append=True)
    publisher.publish_targets(targets)
    second = write()
    assert second.changed
    assert second.content_sha256 == first.content_sha256

    def keys(repository: str) -> dict[str, str]:
        return read_ledger(keyring, repository).identities

    told = json.loads(shown.inside(publisher.folder, None, None, "sbom", keys, NOW))
    assert "click" in {component["name"] for component in told["components"]}


def test_two_repositories_with_the_same_content_have_one_content_digest(
    write: Write, tmp_path: Path, keyring: Keyring
) -> None:
    """Ids, keys, volumes and a base differ; what is in them does not."""
    first = write()
    other = Publisher(tmp_path / "other", keyring, NOW)
    other.create()
    second = write(into=other, base=tmp_path / "repo")
    assert second.descriptor.bundle != first.descriptor.bundle
    assert second.new_bytes < first.new_bytes
    assert second.content_sha256 == first.content_sha256


def test_a_volume_with_something_that_is_denied_now_does_not_travel_again(
    write: Write, publisher: Publisher, keyring: Keyring, tmp_path: Path
) -> None:
    """A volume travels whole: what else it holds must be allowed too, be it of a base repository."""
    first = write()
    trusted = publisher.trusted()
    rules = LicenceRules(None, ("MIT",))
    captured = (Captured("faq/desk/faq.jsonl", tmp_path / "faq.jsonl", "faq", "", "file:faq.jsonl", (), 1_000),)
    writer = BundleWriter(publisher, keyring, QUIET, 1 << 20, unwanted=partial(travels_no_more, rules))
    second = writer.write("demo", captured, replace(SERVICE, title="Other"), NOW)
    had = {volume.path for volume in first.descriptor.volumes}
    assert had.isdisjoint(volume.path for volume in second.descriptor.volumes)
    assert trusted.policy.repository == publisher.policy().repository


def test_with_allowed_licences_a_refresh_ships_what_is_new(write: Write) -> None:
    """Documents state no licence and need none: that keeps no volume from being used again."""
    rules = LicenceRules(("MIT",), ())
    first, second = write(rules=rules), write(faq="two", rules=rules)
    assert {volume.path for volume in first.descriptor.volumes} < {volume.path for volume in second.descriptor.volumes}
    assert second.new_bytes < first.new_bytes
