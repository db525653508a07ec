"""The provenance: an in-toto statement with the SLSA predicate, and its envelope for who has no repository."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest
from packageurl import PackageURL
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError

from bundler.format.manifest import Descriptor
from bundler.lock import PinnedPart
from bundler.plan import Found
from bundler.provenance import statement
from bundler.provenance.envelope import signed
from bundler.provenance.local_digests import digest_of
from bundler.provenance.material import Material
from bundler.repository.keyring import Keyring
from bundler.repository.roots import Roots

VERSIONS = {"lifeboat": "0.1.0"}


def test_the_full_statement_names_every_asset_and_every_source(material: Material) -> None:
    """Subjects are the content and its assets; each source has a digest, also the files that one was made of."""
    told = json.loads(statement.full(material, VERSIONS, "0" * 64))
    assert (told["_type"], told["predicateType"]) == (
        "https://in-toto.io/Statement/v1",
        "https://slsa.dev/provenance/v1",
    )
    assert [subject["name"] for subject in told["subject"]][1:] == [part.path for part in material.parts]
    definition = told["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["profile"]["digest"] == {"sha256": "0" * 64}
    digests = {item["name"]: item["digest"] for item in definition["resolvedDependencies"]}
    assert digests == {
        "model": {"sha256": "1" * 64},
        "embedding": {"sha256": "2" * 64},
        "a-00001": {"sha256": "9" * 64},
        "faq": {"sha256": "b" * 64},
    }


def test_what_is_attached_to_a_model_is_no_part_of_it(material: Material) -> None:
    """One address stands for one digest: a signature has its own, and not that of the file that it is about."""
    name, top, signature = "registry.lan/acme/ranks", f"sha256:{'3' * 64}", "4" * 64
    beside = (PinnedPart(f"sha256-{'3' * 64}.sig", 700, signature),)
    model = Found("model", f"registry:{name}@{top}/ranks.gguf", 9, "5" * 64, "MIT", parts=beside)
    told = json.loads(statement.full(replace(material, sources=(model,)), VERSIONS, "0" * 64))
    first, second = told["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert (first["uri"].endswith("#ranks.gguf"), first["digest"]) == (True, {"sha256": "5" * 64})
    assert second["digest"] == {"sha256": signature}
    purl = PackageURL.from_string(second["uri"])
    assert (purl.version, purl.subpath, purl.qualifiers) == (f"sha256:{signature}", None, {"repository_url": name})


def test_the_open_statement_is_about_the_files_on_the_medium(material: Material, descriptor: Descriptor) -> None:
    """Its subjects are ciphertext that anybody can hash, and it tells nothing of the customer's content."""
    data = statement.public(material, VERSIONS, descriptor).decode()
    told = json.loads(data)
    assert told["subject"][0] == {"name": descriptor.index.path, "digest": {"sha256": "d" * 64}}
    for secret in ("merger", "aldous", "b" * 64, material.content_sha256):
        assert secret not in data


def test_the_envelope_is_verified_with_the_refresh_key_of_the_root(keyring: Keyring) -> None:
    """By the library that TUF uses; another payload under the same signature is not."""
    data = signed(b'{"a": 1}', keyring)
    root = Roots(keyring.home).newest().signed
    [keyid] = root.roles["snapshot"].keyids
    envelope = Envelope.from_dict(json.loads(data))
    assert envelope.payload_type == "application/vnd.in-toto+json"
    assert envelope.verify([root.keys[keyid]], 1)
    forged = {**json.loads(data), "payload": base64.b64encode(b'{"a": 2}').decode()}
    with pytest.raises(VerificationError):
        Envelope.from_dict(forged).verify([root.keys[keyid]], 1)


def test_a_folder_has_one_digest_whatever_order_its_files_are_in(tmp_path: Path) -> None:
    """It is what `sha256sum` over the sorted paths gives, hashed once more; a renamed file changes it."""
    for folder, names in (("one", ("b.md", "a/c.md")), ("two", ("a/c.md", "b.md"))):
        for name in names:
            file = tmp_path / folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(name)
    assert digest_of(tmp_path / "one") == digest_of(tmp_path / "two")
    assert digest_of(tmp_path / "one").startswith("lifeboatFolderV1:")
    (tmp_path / "two" / "b.md").rename(tmp_path / "two" / "d.md")
    assert digest_of(tmp_path / "one") != digest_of(tmp_path / "two")
