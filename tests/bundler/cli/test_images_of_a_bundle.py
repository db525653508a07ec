"""`lifeboat build` with images of a real registry that have more than one name."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bundler.cli import main

pytestmark = pytest.mark.skipif(not shutil.which("skopeo"), reason="apt-get install skopeo")
PROFILE = """
[bundle]
name = "office"
title = "Office"
[[upstream]]
name = "cloud"
base_url = "https://cloud.example/v1"
model = "m"
[[image]]
name = "sink"
source = "registry:{host}/sink:1"
[[image]]
name = "tap"
source = "registry:{host}/mirror/sink@{digest}"
"""


def test_one_image_under_two_names_is_two_images_stored_once(tmp_path: Path, registry: Any, load_script: Any) -> None:
    """That they are one is known only once they are fetched: each is whole, and no byte lies there twice."""
    oci, layer = load_script("oci_images"), {"hello": random.Random(1).randbytes(1_000_000)}
    digests = {oci.Pusher(registry.host, name).image(layer, "1")["digest"] for name in ("sink", "mirror/sink")}
    (digest,) = digests
    (tmp_path / "pass").write_text("correct horse\n")
    (tmp_path / "profile.toml").write_text(PROFILE.format(host=registry.host, digest=digest))
    keys = ("--passphrase-file", str(tmp_path / "pass"), "--home", str(tmp_path / "home"))

    def run(*words: str) -> str:
        done = CliRunner().invoke(main, [*words, *keys], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    run("init", "--name", "Northquay")
    repository = str(tmp_path / "repository")
    built = json.loads(run("build", str(tmp_path / "profile.toml"), "--repository", repository, "--yes", "--json"))
    shown = run("inspect", repository, "--contents")
    for name in ("sink", "tap"):
        assert f"images/{name}/blobs/sha256/{digest.removeprefix('sha256:')}" in shown
    largest = max(path.stat().st_size for path in (tmp_path / "home" / "cache" / "registry").rglob("*"))
    assert built["new_bytes"] < 1.8 * largest
