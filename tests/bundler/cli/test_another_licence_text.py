"""`lifeboat plan` and `build` of a model whose licence text is clearly another licence than the profile states."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bundler.cli import main

PROFILE = """
[bundle]
name = "office"
title = "Office"
[[model]]
name = "ranks"
source = "file:ranks.gguf"
licence = "Apache-2.0"
licence_file = "file:LICENSE"
serves = "rerank"
[[upstream]]
name = "cloud"
base_url = "https://cloud.example/v1"
model = "m"
"""


def test_a_text_that_is_not_seen_whole_is_not_judged(tmp_path: Path, make_gguf: Any) -> None:
    """Behind a mebibyte of one licence may stand the licence that is stated."""
    (tmp_path / "ranks.gguf").write_bytes(make_gguf(tensor="cls.weight"))
    (tmp_path / "profile.toml").write_text(PROFILE)
    for rest, told in (("", True), ("words " * 2**18, False)):
        (tmp_path / "LICENSE").write_text(f"MIT License\n{rest}")
        words = ["plan", str(tmp_path / "profile.toml"), "--home", str(tmp_path / "home")]
        planned = CliRunner().invoke(main, words, catch_exceptions=False)
        assert (planned.exit_code, "the text that comes with it is MIT" in planned.stdout) == (0, told)


def test_another_text_is_told_recorded_and_judged(tmp_path: Path, make_gguf: Any) -> None:
    """Without a gate the bundle is built and says so; under one that denies what the text is, it is refused."""
    (tmp_path / "ranks.gguf").write_bytes(make_gguf(tensor="cls.weight"))
    (tmp_path / "LICENSE").write_text("GNU AFFERO GENERAL PUBLIC LICENSE\n Version 3, 19 November 2007\n")
    (tmp_path / "pass").write_text("correct horse\n")
    profile, keys = tmp_path / "profile.toml", ["--passphrase-file", str(tmp_path / "pass")]
    profile.write_text(PROFILE)
    repository = str(tmp_path / "repository")

    def run(*words: str) -> Result:
        return CliRunner().invoke(main, [*words, *keys, "--home", str(tmp_path / "home")], catch_exceptions=False)

    run("init", "--name", "Northquay")
    told = "licences differ: file:ranks.gguf: the profile says Apache-2.0, the text that comes with it is AGPL-3.0"
    planned = run("plan", str(profile))
    assert (planned.exit_code, told in planned.stdout) == (0, True)
    built = run("build", str(profile), "--repository", repository, "--yes")
    assert (built.exit_code, told in built.output) == (0, True)
    components = json.loads(run("inspect", repository, "--sbom").stdout)["components"]
    (model,) = [item for item in components if item["bom-ref"] == "asset/models/ranks.gguf"]
    assert {"name": "lifeboat:licence-of-the-text", "value": "AGPL-3.0"} in model["properties"]
    profile.write_text(PROFILE + '[licences]\ndeny = ["AGPL-*"]\n')
    refused = run("build", str(profile), "--repository", repository, "--yes")
    assert (refused.exit_code, "AGPL-3.0-only is denied, by its text" in refused.stderr) == (3, True)


def test_one_of_several_texts_of_a_hub_is_not_judged(
    tmp_path: Path, local_hub: Any, make_gguf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be the code's; the text that the profile names is, whatever the hub has."""
    monkeypatch.setenv("HF_ENDPOINT", local_hub.endpoint)
    model = {"ranks.gguf": make_gguf(tensor="cls.weight"), "LICENSE-CODE": b"MIT License\n"}
    for name, files in (("one", model), ("two", {**model, "LICENSE-WEIGHTS": b"Acme terms\n"})):
        local_hub.add(f"org/{name}", files)
    (tmp_path / "LICENSE").write_text("MIT License\n")
    beside = 'licence_file = "file:LICENSE"\n'
    for name, named, told in (("one", "", True), ("two", "", False), ("two", beside, True)):
        text = PROFILE.replace("file:ranks", f"hub:org/{name}/ranks").replace(beside, named)
        (tmp_path / "profile.toml").write_text(text)
        words = ["plan", str(tmp_path / "profile.toml"), "--home", str(tmp_path / "home")]
        planned = CliRunner().invoke(main, words, catch_exceptions=False)
        assert (planned.exit_code, "the text that comes with it is MIT" in planned.stdout) == (0, told)
