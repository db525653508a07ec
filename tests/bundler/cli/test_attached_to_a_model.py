"""`lifeboat build` of a model that was signed in a real registry: the signature can still be checked."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from bundler.cli import main

pytestmark = pytest.mark.skipif(not shutil.which("skopeo"), reason="apt-get install skopeo")
PROFILE = """
[bundle]
name = "office"
title = "Office"
public = ["sbom"]
[[model]]
name = "ranks"
source = "registry:{host}/signed/ranks:1/ranks.gguf"
licence = "MIT"
serves = "rerank"
[[upstream]]
name = "cloud"
base_url = "https://cloud.example/v1"
model = "m"
"""


def _signed(oci: Any, host: str, data: bytes, key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    """Pushes a model and a signature of its manifest, as `cosign sign --key` does."""
    push = oci.Pusher(host, "signed/ranks")
    layer = push.blob(data, "application/gguf", annotations={"org.opencontainers.image.title": "ranks.gguf"})
    made: dict[str, Any] = push.artifact([layer], "1")
    payload = json.dumps({"critical": {"image": {"docker-manifest-digest": made["digest"]}}}).encode()
    told = base64.b64encode(key.sign(payload, ec.ECDSA(SHA256()))).decode()
    kind = "application/vnd.dev.cosign.simplesigning.v1+json"
    blob = push.blob(payload, kind, annotations={"dev.cosignproject.cosign/signature": told})
    push.artifact([blob], f"{made['digest'].replace(':', '-')}.sig")
    return made


def test_a_signature_travels_with_the_model_and_still_holds(
    tmp_path: Path, registry: Any, load_script: Any, make_gguf: Any
) -> None:
    """From the exported bundle alone: the signature, the manifest that it signs, and the model that this names."""
    key, keys = ec.generate_private_key(ec.SECP256R1()), ("--passphrase-file", str(tmp_path / "pass"))
    made = _signed(load_script("oci_images"), registry.host, make_gguf(tensor="cls.weight"), key)
    (tmp_path / "pass").write_text("correct horse\n")
    (tmp_path / "profile.toml").write_text(PROFILE.format(host=registry.host))

    def run(*words: str) -> str:
        done = CliRunner().invoke(main, [*words, *keys, "--home", str(tmp_path / "home")], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    run("init", "--name", "Northquay")
    repository, out = str(tmp_path / "repository"), tmp_path / "out"
    run("build", str(tmp_path / "profile.toml"), "--repository", repository, "--yes")
    run("export", repository, str(out))
    layout = out / "attached" / "ranks"
    raw = subprocess.run(["skopeo", "inspect", "--raw", f"oci:{layout}:ranks"], capture_output=True, check=True).stdout
    assert f"sha256:{hashlib.sha256(raw).hexdigest()}" == made["digest"]
    model = (out / "models" / "ranks.gguf").read_bytes()
    assert json.loads(raw)["layers"][0]["digest"] == f"sha256:{hashlib.sha256(model).hexdigest()}"
    listed = json.loads((layout / "index.json").read_bytes())["manifests"][1]
    assert listed["annotations"]["kind"] == "dev.cosignproject.cosign/sigs"
    blobs = layout / "blobs" / "sha256"
    signature = json.loads((blobs / listed["digest"][7:]).read_bytes())["layers"][0]
    payload = (blobs / signature["digest"][7:]).read_bytes()
    told = base64.b64decode(signature["annotations"]["dev.cosignproject.cosign/signature"])
    key.public_key().verify(told, payload, ec.ECDSA(SHA256()))
    assert json.loads(payload)["critical"]["image"]["docker-manifest-digest"] == made["digest"]
    _is_in_the_documents(next(Path(repository).glob("bundles/*/sbom.cdx.json")), listed)


def _is_in_the_documents(sbom: Path, listed: dict[str, Any]) -> None:
    """With the model, and as no component of its own."""
    components = json.loads(sbom.read_bytes())["components"]
    assert not [item for item in components if "attached" in item["bom-ref"]]
    (model,) = [item for item in components if item["bom-ref"] == "asset/models/ranks.gguf"]
    told = {item["name"]: item["value"] for item in model["properties"]}
    assert (
        told[f"lifeboat:attached:{listed['annotations']['org.opencontainers.image.ref.name']}"] == listed["digest"][7:]
    )
