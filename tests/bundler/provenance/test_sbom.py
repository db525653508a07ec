"""The bill of materials: held to the official schema, with the models in it, and the same bytes each time."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from bundler.format.manifest import Descriptor
from bundler.provenance import sbom
from bundler.provenance.material import Material

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
