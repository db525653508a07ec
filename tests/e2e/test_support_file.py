"""The file for supporters of a real box: secrets are planted everywhere, and none is in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest

from appliance.store import current, nightly, versions
from appliance.store.current import GivenUp, Proof
from appliance.store.layout import StateLayout
from appliance.store.nightly import Nightly
from appliance.store.seal import Seal
from bundler.files import DISK, read_limited

pytestmark = [pytest.mark.llm, pytest.mark.timeout(300)]
# None has the form of a secret: what goes out is chosen by name, and what stays is known by value.
PLANTED = {
    name: f"zanzibar {name} zeppelin"
    for name in (
        "question",
        "prompt",
        "handoff",
        "reason",
        "proof",
        "night",
        "journal",
        "environment",
        "label",
        "answer",
    )
}
SECRET, SECRET_NAME, HOST, PROVIDER = "quartz-vortex", "MARMALADE", "box.mandrake.example", "api.gazpacho.example"
JOURNAL = f"""#!/bin/sh
echo '{{"MESSAGE": "serving version 1", "PRIORITY": "6", "__REALTIME_TIMESTAMP": "1700000000000000"}}'
echo '{{"MESSAGE": "{PLANTED["journal"]}", "PRIORITY": "3", "__REALTIME_TIMESTAMP": "1700000001000000"}}'
echo '{{"MESSAGE": "warning: {SECRET} of {HOST} at https://{PROVIDER}/v1", "PRIORITY": "4"}}'
"""
SYSTEMCTL = f"""#!/bin/sh
echo ActiveState=active
echo "Result={PLANTED["environment"]}" | grep -v zanzibar
"""


@pytest.fixture
def state(customer: Any, tmp_path: Path) -> Path:
    """A box with a secret in every place where one may lie."""
    root = shutil.copytree(customer.pristine, tmp_path / "state", symlinks=True)
    (tmp_path / "secret").write_text(SECRET)
    customer.must("appliance", "secret", "set", SECRET_NAME, "--file", tmp_path / "secret", "--state", root)
    customer.must("appliance", "token", "create", PLANTED["label"], "--state", root)
    layout = StateLayout(root)
    sealed = Seal(layout.keys).open()
    version = versions.read_current(layout, sealed)
    keys = read_limited(layout.version(version.number) / "keys.age", 1 << 20)
    planted = replace(
        version,
        selftest=(*version.selftest, f"faq: {PLANTED['question']!r}: expected a, found {PLANTED['answer']}"),
        settings={"handoff": PLANTED["handoff"], "hosts": f"{HOST}, other.example"},
        egress=(*version.egress, f"https://{PROVIDER}"),
    )
    versions.write_version(layout, sealed, planted, keys, DISK)
    versions.write_version(layout, sealed, replace(planted, number=version.number + 1), keys, DISK)
    why = GivenUp("taken back", PLANTED["reason"], "2026-11-21T00:00:00+00:00")
    current.give_up(layout, version.number + 1, why)
    current.note_proof(layout, version.number, Proof((f"model m: {PLANTED['proof']}",), tested=True))
    nightly.write(layout, Nightly(1, "2026-11-21T03:00:00+00:00", passed=False, lines=(PLANTED["night"],)))
    (root / f"{SECRET}.txt").write_text(SECRET)
    return root


@contextmanager
def served(state: Path, folder: Path) -> Iterator[str]:
    url_file = folder / "url"
    words = ["serve", "--state", str(state), "--port", "0", "--port-file", str(url_file)]
    environment = {**os.environ, SECRET_NAME: PLANTED["environment"]}
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", "appliance", *words]
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    with process:
        try:
            for _ in range(1200):
                if url_file.exists():
                    break
                assert process.poll() is None
                time.sleep(0.1)
            yield url_file.read_text().strip()
        finally:
            process.terminate()


def members(file: Path) -> dict[str, str]:
    with tarfile.open(file) as archive:
        opened = {entry.name: archive.extractfile(entry) for entry in archive.getmembers()}
        return {Path(name).name: found.read().decode() for name, found in opened.items() if found is not None}


def secrets_of(customer: Any, state: Path) -> set[str]:
    """Everything that must not be in the file, from where it lies."""
    sealed = Seal(StateLayout(state).keys).open()
    tokens = json.loads((state / "tokens.json").read_text())["tokens"]
    content = customer.folder / "profiles" / "demo"
    faq = [json.loads(line) for line in (content / "faq.jsonl").read_text().splitlines()]
    found = {sealed.identity, sealed.report_secret, sealed.version_secret, customer.code.read_text().strip()}
    found |= {SECRET, SECRET_NAME, HOST, PROVIDER, "other.example", *PLANTED.values()}
    found |= {token["sha256"] for token in tokens} | {token["id"] for token in tokens}
    found |= {text for entry in faq for text in (entry["question"], entry["answer"], *entry.get("variants", []))}
    sentences = (text for file in content.rglob("*.md") for text in re.split(r"[.\n]", file.read_text()))
    return found | {text.strip() for text in sentences if len(text.strip()) > 30}


def test_no_planted_secret_is_in_the_file(
    customer: Any, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor any question, answer or document, while the box serves; and what a supporter needs is there."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in (("journalctl", JOURNAL), ("systemctl", SYSTEMCTL)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("OPENAI_API_KEY", PLANTED["environment"])
    token = json.loads(customer.must("appliance", "token", "create", "asker", "--state", state, "--json"))["token"]
    file = tmp_path / "support.tar.gz"
    with served(state, tmp_path) as url, openai.OpenAI(base_url=f"{url}/v1", api_key=token, max_retries=0) as client:
        client.post("/ask", cast_to=object, body={"question": PLANTED["prompt"]})
        customer.run("appliance", "doctor", "--state", state, "--support-file", file)
    found = members(file)
    whole = "\n".join(found.values())
    assert {secret for secret in {*secrets_of(customer, state), token} if secret in whole} == set()
    assert "zanzibar" not in whole
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(found["status.json"])["version"] == 1
    assert any(finding["subject"] == "trust" for finding in json.loads(found["doctor.json"]))
    assert 'lifeboat_answers_total{endpoint="/v1/ask"' in found["metrics.txt"]
    assert "2023-11-14T22:13:20Z 6 serving version 1" in found["journal.txt"]
    assert json.loads(found["service.json"])["ActiveState"] == "active"
    assert "lifeboat-ai" in json.loads(found["programs.json"])["distributions"]
    assert [line["number"] for line in json.loads(found["versions.json"])] == [1, 2]
    assert "support file" not in (state / "tokens.json").read_text()


def test_a_file_that_is_there_stays(customer: Any, state: Path, tmp_path: Path) -> None:
    """Neither a file nor a link is written over, and a folder that is not there is told before the examination."""
    taken, link = tmp_path / "taken", tmp_path / "link"
    taken.write_text("mine")
    link.symlink_to(tmp_path / "nowhere")
    for place in (taken, link, tmp_path / "no" / "file"):
        done = customer.run("appliance", "doctor", "--state", state, "--support-file", place)
        assert (done.returncode, done.stdout) == (3, "")
    assert taken.read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_a_box_that_does_not_open_still_gets_a_file(customer: Any, state: Path, tmp_path: Path) -> None:
    """What cannot be had is told as such: a broken box is what the file is for."""
    (state / "keys" / "seal" / "site.age").write_bytes(b"broken")
    file = tmp_path / "support.tar.gz"
    done = customer.run("appliance", "doctor", "--state", state, "--support-file", file)
    assert done.returncode == 8
    found = members(file)
    assert "not there" in json.loads(found["status.json"])
    assert json.loads(found["machine.json"])["kernel"].startswith("Linux")
    assert "zanzibar" not in "\n".join(found.values())
