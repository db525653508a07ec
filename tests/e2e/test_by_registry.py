"""By registry instead of by stick: pushed, pulled, installed, asked; killed in mid-way, and nothing carried twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.llm, pytest.mark.timeout(600)]
LAYER_MIB = 8
LAYER_BYTES = LAYER_MIB << 20


@pytest.fixture
def front(registry: Any) -> Any:
    return registry.front()


def _push_words(customer: Any, place: str) -> list[str]:
    words = ["copy", customer.repository, f"oci:{place}", "--site", "bristol", "--layer-size", LAYER_MIB, "--json"]
    return [*map(str, words), "--passphrase-file", str(customer.folder / "pass")]


def _courier(folder: Path, *words: str | Path) -> list[str]:
    """A machine of the customer's: it has no keyring."""
    return [*map(str, words), "--json", "--home", str(folder / "no-home")]


def _killed(customer: Any, words: list[str], front: Any, after_bytes: int) -> None:
    """Runs a command and kills it, with no chance to tidy up, once so many bytes have passed."""
    environment = {**os.environ, "LIFEBOAT_HOME": str(customer.folder / "home")}
    command = [sys.executable, "-m", "bundler", *words]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:

        def watch(_: Any) -> None:
            if front.up_bytes() + front.down_bytes() > after_bytes:
                running.send_signal(signal.SIGKILL)

        front.watch = watch
        assert running.wait(120) == -signal.SIGKILL
    front.watch = None
    until = time.monotonic() + 60
    while not all(seen.ended for seen in front.seen):  # what the registry still does with the broken connections
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_box_answers_from_what_a_registry_brought(customer: Any, front: Any, tmp_path: Path) -> None:
    """Pushed by the builder, pulled where no key is, installed with the site card, asked: the new FAQ entry answers."""
    place = f"{front.host}/northquay/office:main"
    pushed = json.loads(customer.must("bundler", *_push_words(customer, place)))
    pulled = json.loads(customer.must("bundler", *_courier(tmp_path, "copy", f"oci:{place}", tmp_path / "medium")))
    assert (pulled["bundle"], pulled["reference"]) == (pushed["bundle"], pushed["reference"])
    verified = json.loads(customer.must("bundler", *_courier(tmp_path, "verify", tmp_path / "medium")))
    assert pushed["bundle"] in verified["bundles"]
    installed = customer.install(tmp_path / "medium", tmp_path / "state")
    assert installed.returncode == 0, installed.stderr
    with customer.serving(tmp_path / "state") as box:
        assert box.ask("/v1/faq", {"question": "Where is the lifeboat kept?"})["match"]["answer"] == "On deck."


def test_a_killed_push_goes_on(customer: Any, front: Any) -> None:
    """What had arrived whole is not sent again; at most the layers that were under way are."""
    place = f"{front.host}/northquay/killed-push:main"
    _killed(customer, _push_words(customer, place), front, 5 * LAYER_BYTES)
    arrived = {seen.path.rsplit("digest=", 1)[1] for seen in front.asked("PUT", "digest=") if seen.status == 201}
    before = front.up_bytes()
    assert arrived
    front.reset()
    done = json.loads(customer.must("bundler", *_push_words(customer, place)))
    sent = {seen.path.rsplit("digest=", 1)[1] for seen in front.asked("PUT", "digest=")}
    assert not arrived & sent
    assert done["sent_bytes"] <= front.up_bytes() < done["sent_bytes"] + 100_000
    assert before + front.up_bytes() < done["sent_bytes"] + done["there_bytes"] + 3 * LAYER_BYTES + 1_000_000


def test_a_killed_pull_goes_on(customer: Any, front: Any, tmp_path: Path) -> None:
    """It goes on inside the files, from what lies on the disk; the killed one was never taken for a whole medium."""
    place, medium = f"{front.host}/northquay/killed-pull:main", tmp_path / "medium"
    customer.must("bundler", *_push_words(customer, place))
    front.reset()
    words = _courier(tmp_path, "copy", f"oci:{place}", medium)
    _killed(customer, words, front, 5 * LAYER_BYTES)
    assert not (medium / "metadata").exists()
    refused = customer.install(medium, tmp_path / "state")
    assert refused.returncode == 11  # no root: no metadata lies there yet
    here = sum(path.stat().st_size for path in (medium / ".pull/parts").iterdir())
    assert here > 3 * LAYER_BYTES
    front.reset()
    done = json.loads(customer.must("bundler", *words))
    total = done["fetched_bytes"] + done["kept_bytes"]
    assert done["kept_bytes"] >= here
    assert front.down_bytes() < total - here + 1_000_000
    verified = json.loads(customer.must("bundler", *_courier(tmp_path, "verify", medium)))
    assert done["bundle"] in verified["bundles"]
