"""Models whose signer a profile names: taken as they were signed, refused in every other case."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bundler.format.errors import BadInput, BadInputs
from bundler.models.signatures import Signatures, default_place, names_of
from bundler.profile.model import SignerEntry
from bundler.profile.read import parse_profile
from bundler.sources import file
from bundler.sources.source import FileSource, Part, parse

KEY = SignerEntry("file:key.pub", "")
WEIGHTS = "file:model/weights.gguf"


@pytest.fixture
def folder(tmp_path: Path, repo_root: Path) -> Path:
    shutil.copytree(repo_root / "tests" / "vectors" / "model_signing", tmp_path, dirs_exist_ok=True)
    shutil.copy(tmp_path / "key.sig", tmp_path / "model" / "model.sig")
    return tmp_path


@pytest.fixture
def signatures(folder: Path) -> Signatures:
    return Signatures(
        lambda text: file.fetch(FileSource(text.removeprefix("file:")), folder),
        lambda text: folder / text.removeprefix("file:"),
    )


def test_a_signed_file_is_taken_and_its_signer_told(signatures: Signatures) -> None:
    """Beside the file, in the folder of the model, or where the profile says; for a folder, files below it too."""
    fetched, signer = signatures.check(KEY, WEIGHTS, signatures.fetch(WEIGHTS))
    assert fetched.sha256
    assert signer.startswith("key ")
    deep = signatures.fetch("file:model/sub/deep.txt")
    assert signatures.check(KEY, "file:model/", deep)[1] == signer
    alone = replace(KEY, signature="file:one-file.sig")
    assert signatures.check(alone, WEIGHTS, signatures.fetch(WEIGHTS))[1] == signer


def test_no_signature_refuses(folder: Path, signatures: Signatures) -> None:
    """Whoever names a signer wants one."""
    (folder / "model" / "model.sig").unlink()
    with pytest.raises(BadInput, match="there is no signature"):
        signatures.check(KEY, WEIGHTS, signatures.fetch(WEIGHTS))


def test_another_signer_refuses(signatures: Signatures) -> None:
    """The error names the signature."""
    with pytest.raises(BadInput, match=r"model\.sig: the signature is not of the signer"):
        signatures.check(SignerEntry("file:p384.pub", ""), WEIGHTS, signatures.fetch(WEIGHTS))


def test_a_changed_file_refuses(folder: Path, signatures: Signatures) -> None:
    """Expected and found are told."""
    (folder / "model" / "weights.gguf").write_bytes(b"weighed")
    with pytest.raises(BadInput, match="by the signature, found"):
        signatures.check(KEY, WEIGHTS, signatures.fetch(WEIGHTS))


def test_a_file_that_is_not_covered_refuses(folder: Path, signatures: Signatures) -> None:
    """One that was put beside the signed ones, or that lies outside."""
    (folder / "model" / "extra.gguf").write_bytes(b"extra")
    for text in ("file:model/extra.gguf", "file:key.pub"):
        with pytest.raises(BadInput, match="does not cover it"):
            signatures.check(KEY, "file:model/", signatures.fetch(text))


def test_every_part_of_a_merged_model_must_be_covered(signatures: Signatures) -> None:
    """A split model is signed in its parts; one that is not refuses the whole."""
    fetched, _ = signatures.check(KEY, WEIGHTS, signatures.fetch(WEIGHTS))
    good = Part("model/weights.gguf", 7, fetched.sha256)
    assert signatures.check(KEY, WEIGHTS, replace(fetched, parts=(good,)))
    with pytest.raises(BadInput, match="does not cover it"):
        signatures.check(KEY, WEIGHTS, replace(fetched, parts=(good, Part("model/lost.gguf", 1, "0" * 64))))


def test_where_a_signature_lies() -> None:
    """At the root of a hub's repository at the model's own commit, in a model's folder, or beside its one file."""
    assert default_place("hub:a/b@main/deep/x.gguf", "c" * 40) == f"hub:a/b@{'c' * 40}/model.sig"
    assert default_place("file:models/mini/", "") == "file:models/mini/model.sig"
    assert default_place("file:models/x.gguf", "") == "file:models/model.sig"
    assert default_place("file:x.gguf", "") == "file:model.sig"
    assert default_place("wheel:a==1/m/x.gguf", "") == "wheel:a==1/m/model.sig"
    assert default_place("registry:host.example/models:1/x.gguf", "") == "registry:host.example/models:1/model.sig"


def test_names_start_where_the_signature_lies() -> None:
    """So a file cannot pass for another one of the same name elsewhere."""
    hub = parse(f"hub:a/b@{'c' * 40}/deep/x.gguf")
    assert names_of(hub, parse("hub:a/b/model.sig"), "") == ("deep/x.gguf",)
    assert names_of(hub, parse("hub:a/b/deep/model.sig"), "") == ("x.gguf",)
    assert names_of(hub, parse("hub:a/b/other/model.sig"), "") == ()
    assert names_of(hub, parse("file:signatures/b.sig"), "") == ("deep/x.gguf",)
    artifact = parse("registry:host.example/models:1/deep/x.gguf")
    assert names_of(artifact, parse("registry:host.example/models:1/deep/model.sig"), "") == ("x.gguf",)
    assert names_of(artifact, parse("registry:host.example/models:1/other/model.sig"), "") == ()
    assert names_of(artifact, parse("file:signatures/b.sig"), "") == ("x.gguf",)


@pytest.mark.parametrize(
    ("keys", "issue"),
    [
        ({"signature": "file:x.sig"}, "signature needs signer_key"),
        ({"signer_key": "hub:a/b/key.pub"}, "signer_key must be file:PATH"),
        ({"signer_key": "file:k", "signature": "nowhere"}, "is not a source"),
    ],
)
def test_a_profile_that_names_a_signer_badly_is_told(tmp_path: Path, keys: dict[str, str], issue: str) -> None:
    """A key that comes with what it signed proves nothing."""
    model = {"name": "m", "source": "file:m.gguf", "licence": "MIT", **keys}
    values = {"bundle": {"name": "demo", "title": "Demo"}, "model": [model]}
    with pytest.raises(BadInputs) as caught:
        parse_profile(values, tmp_path, "demo.toml", {})
    assert any(issue in line for line in caught.value.issues)
