"""Other people's tools and our artifact: skopeo mirrors it between registries and over an air gap, byte for byte."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from shutil import which
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(which("skopeo") is None, reason="skopeo is not installed")


def _skopeo(*words: str) -> str:
    done = subprocess.run(["skopeo", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_skopeo_mirrors_it(
    stock: Any, registry: Any, make_registry: Callable[..., Any], tmp_path: Path,
    files: Callable[[Path], dict[str, bytes]],
) -> None:  # fmt: skip
    """From registry to registry, and through a folder that is carried: the digest stays, and the mirror is pulled."""
    stock.build(b"1")
    name = f"mirrored/{uuid.uuid4().hex[:12]}:main"
    pushed = stock.push(f"{registry.host}/{name}")
    stock.pull(f"{registry.host}/{name}", tmp_path / "straight")
    insecure = ("--src-tls-verify=false", "--dest-tls-verify=false")
    with make_registry() as mirror:
        there = f"docker://{mirror.host}/{name}"
        _skopeo("copy", "--preserve-digests", *insecure, f"docker://{registry.host}/{name}", there)
        carried = f"dir:{tmp_path / 'carried'}"
        _skopeo("copy", "--preserve-digests", "--src-tls-verify=false", there, carried)
        _skopeo("copy", "--preserve-digests", "--dest-tls-verify=false", carried, f"{there}-again")
        raw = json.loads(_skopeo("inspect", "--raw", "--tls-verify=false", there))
        assert raw["artifactType"] == "application/vnd.lifeboat.repository.v1"
        for tag in (name, f"{name}-again"):
            pulled = stock.pull(f"{mirror.host}/{tag}", tmp_path / tag.rsplit(":", 1)[1])
            assert pulled.reference.rsplit("@", 1)[1] == pushed.reference.rsplit("@", 1)[1]
            assert files(tmp_path / tag.rsplit(":", 1)[1]) == files(tmp_path / "straight")
