"""The bill of materials: held to the official schema, with the models in it, and the same bytes each time."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from bundler.format.manifest import Descriptor
from bundler.lock import PinnedPart
from bundler.plan import Found
from bundler.provenance import sbom
from bundler.provenance.material import Material, Part

COMMIT = "c" * 40
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def components(data: bytes) -> dict[str, dict[str, Any]]:
    return {component["name"]: component for component in json.loads(data)["components"]}


def test_both_keep_to_the_official_schema(material: Material, descriptor: Descriptor) -> None:
    """The validator of the library finds nothing; it does find a model card that is none."""
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    for data in (sbom.full(material), sbom.public(material, descriptor)):
        assert validator.validate_str(data.decode()) is None
    spoilt = sbom.full(material).decode().replace('"architectureFamily": "llama"', '"architectureFamily": 7')
    assert validator.validate_str(spoilt) is not None


def test_a_model_is_told_with_card_hash_licence_and_origin(material: Material) -> None:
    """What came as it was has a package URL and its digest; a text that is no SPDX identifier is a name."""
    chat = components(sbom.full(material))["chat"]
    assert chat["type"] == "machine-learning-model"
    assert chat["hashes"] == [{"alg": "SHA-256", "content": "1" * 64}]
    assert chat["purl"] == f"pkg:huggingface/Acme/Chat-GGUF@{'c' * 40}#chat-q4.gguf"
    assert chat["licenses"] == [{"license": {"name": "llama3.1"}}]
    assert chat["modelCard"]["modelParameters"]["architectureFamily"] == "llama"
    assert {"name": "lifeboat:quantisation", "value": "Q4_K_M"} in chat["modelCard"]["properties"]


def test_what_was_converted_names_what_it_was_made_from(material: Material) -> None:
    """The graph has its own digest; its ancestor has the package URL, and the files that it was made of."""
    graph = components(sbom.full(material))["embedding/model.onnx"]
    assert "purl" not in graph
    [ancestor] = graph["pedigree"]["ancestors"]
    assert ancestor["purl"] == "pkg:pypi/mini@0.1.0#mini/model/model.safetensors"
    assert ancestor["hashes"] == [{"alg": "SHA-256", "content": "2" * 64}]
    assert ancestor["properties"] == [{"name": "lifeboat:file:a-00001", "value": "9" * 64}]
    assert graph["licenses"] == [{"expression": "Apache-2.0 OR MIT"}]


def test_a_profile_of_everything_is_told(descriptor: Descriptor) -> None:
    """A split model of a hub, an image and a snapshot of a store: package URLs, digests, ancestors, and the schema."""
    material = everything()
    data = sbom.full(material)
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    for each in (data, sbom.public(material, descriptor)):
        assert validator.validate_str(each.decode()) is None
    found = components(data)
    merged, image, rows, state = (
        found[name] for name in ("big", "tool", "vectors/desk/vectors.npy", "vectors/desk/store.json")
    )
    assert "purl" not in merged
    assert merged["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    [origin] = merged["pedigree"]["ancestors"]
    assert origin["purl"] == f"pkg:huggingface/Acme/Big@{COMMIT}#Q4"
    files = [{"name": f"lifeboat:file:Q4/big-0000{n}-of-00002.gguf", "value": f"{n}" * 64} for n in (1, 2)]
    assert origin["properties"] == files
    assert image["type"] == "container"
    assert image["purl"] == f"pkg:oci/tool@sha256:{'d' * 64}?repository_url=registry.lan/acme/tool"
    assert [name for name in found if name.startswith("images/")] == []
    assert (rows["type"], rows["hashes"]) == ("data", [{"alg": "SHA-256", "content": "f" * 64}])
    for own in (rows, state):
        assert not {"purl", "pedigree", "externalReferences"} & own.keys()


def test_what_is_noted_of_a_vector_store_is_not_for_everybody(descriptor: Descriptor) -> None:
    """Its facts are a file of settings by kind, and the customer's by place: no name, no digest, no address of it."""
    shown = sbom.public(everything(), descriptor)
    for secret in ("store.lan", "desk", "e" * 64, "f" * 64):
        assert secret not in shown.decode()
    assert components(shown).keys() == {"big", "tool", "vectors"}


def everything() -> Material:
    """As `gather` hands it over: the model is merged, an image is many files, a store is the customer's own."""
    pieces = tuple(PinnedPart(f"Q4/big-0000{n}-of-00002.gguf", 5, f"{n}" * 64) for n in (1, 2))
    model, store = f"hub:Acme/Big@{COMMIT}/Q4/*.gguf", "chroma:https://store.lan:8000"
    tool = f"registry:registry.lan/acme/tool@sha256:{'d' * 64}"
    sources = (
        Found("model", model, 10, "b" * 64, "MIT", resolved=COMMIT, parts=pieces),
        Found("image", tool, 30, "d" * 64, "", resolved=f"sha256:{'d' * 64}"),
        Found("vectors", store, 40, "", ""),
    )
    blob = f"images/tool/blobs/sha256/{'d' * 64}"
    parts = (
        Part("images/tool/index.json", "image", 9, "c" * 64, "0" * 64, "", tool),
        Part(blob, "image", 20, "d" * 64, "0" * 64, "", tool),
        Part("models/big.gguf", "gguf", 10, "a" * 64, "0" * 64, "MIT", model),
        Part("vectors/desk/store.json", "config", 4, "e" * 64, "0" * 64, "", f"{store} [chroma server 1.0]"),
        Part("vectors/desk/vectors.npy", "vectors", 40, "f" * 64, "0" * 64, "", store),
    )
    return Material("p", "P", "ab" * 16, "cd" * 16, "e" * 64, parts, sources, {}, "", ())


def test_the_program_of_the_repository_is_told(material: Material) -> None:
    """Each wheel is a library with its digest."""
    click = components(sbom.full(material))["click"]
    assert (click["type"], click["purl"], click["version"]) == ("library", "pkg:pypi/click@8.1", "8.1")


def test_the_same_content_gives_the_same_bytes(material: Material) -> None:
    """No clock and no chance in it: the serial number is of the content."""
    assert sbom.full(material) == sbom.full(material)
    other = json.loads(sbom.full(replace(material, content_sha256="f" * 64)))
    assert other["serialNumber"] != json.loads(sbom.full(material))["serialNumber"]
    assert "timestamp" not in json.loads(sbom.full(material))["metadata"]


def test_what_everybody_may_read_tells_nothing_of_the_content(material: Material, descriptor: Descriptor) -> None:
    """Neither names nor digests of the customer's content, nor the profile's name; the models are all there."""
    data = sbom.public(material, descriptor).decode()
    for secret in ("merger", "secret", "aldous", "Aldous", "5" * 64, "6" * 64, material.content_sha256):
        assert secret not in data
    assert {"faq", "chat", "embedding/model.onnx"} <= components(data.encode()).keys()


def test_a_bundle_of_nothing_but_upstreams_has_one(material: Material) -> None:
    """A box that only stands in front of providers holds no file of ours, and still tells what it is."""
    bare = replace(material, parts=(), sources=(), digests={}, software=())
    told = sbom.full(bare).decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(told) is None
    assert json.loads(told)["metadata"]["component"]["name"] == material.profile
