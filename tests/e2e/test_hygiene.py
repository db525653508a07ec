"""What the processes of a box show to others: nothing in arguments or environment, no cores; and an attended box."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from appliance.store.layout import StateLayout
from appliance.store.seal import Seal
from appliance.store.secrets import Secrets
from appliance.store.slots import asking

pytestmark = [pytest.mark.llm, pytest.mark.timeout(600)]
PASSPHRASE, SECRET = "a lifeboat is kept on deck", "sk-cloud-hygiene-1"


@dataclass(frozen=True)
class Attended:
    """A box that only a passphrase opens."""

    state: Path
    environment: dict[str, str]

    def serve(self, *words: str) -> subprocess.Popen[bytes]:
        url = ["--port", "0", "--port-file", str(self.state.with_name("url"))]
        command = [sys.executable, "-m", "appliance", "serve", "--state", str(self.state), *url, *words]
        return subprocess.Popen(command, env=self.environment, stderr=subprocess.PIPE)


@pytest.fixture
def attended(customer: Any, tmp_path: Path) -> Attended:
    state, word = tmp_path / "state", tmp_path / "word"
    shutil.copytree(customer.pristine, state, symlinks=True)
    word.write_text(f"{PASSPHRASE}\n")
    (tmp_path / "key").write_text(SECRET)
    customer.must("appliance", "secret", "set", "cloud", "--file", tmp_path / "key", "--state", state)
    customer.must("appliance", "seal", "add", "passphrase", "--new-passphrase-file", word, "--state", state)
    environment = {**os.environ, "LIFEBOAT_PASSPHRASE_FILE": str(word)}
    remove = [sys.executable, "-m", "appliance", "seal", "remove", "machine", "--state", str(state)]
    subprocess.run(remove, env=environment, check=True)
    return Attended(state, environment)


def family(pid: int) -> Iterator[int]:
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from family(int(child))


def wait_for_engine(process: subprocess.Popen[bytes]) -> list[int]:
    """Waits until supervisor, serving process and engine run."""
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        pids = list(family(process.pid))
        if any(b"appliance.engine.child" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids):
            return pids
        time.sleep(0.1)
    raise AssertionError(process.stderr.read() if process.stderr and process.poll() is not None else "no engine")


def test_no_process_shows_a_secret_or_leaves_a_core(attended: Attended, customer: Any) -> None:
    """Neither arguments nor environment of any process hold a key or passphrase; none may write a core."""
    with asking(lambda: PASSPHRASE):
        seal = Seal(StateLayout(attended.state).keys)
        assert Secrets(seal).read() == {"cloud": SECRET}
        hidden = [PASSPHRASE, SECRET, seal.key(), seal.open().identity, seal.open().report_secret]
    with attended.serve("--attended") as process:
        try:
            pids = wait_for_engine(process)
            assert len(pids) >= 3
            for pid in pids:
                shown = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
                assert not [word for word in hidden if word.encode() in shown]
                limits = Path(f"/proc/{pid}/limits").read_text()
                (core,) = (line for line in limits.splitlines() if line.startswith("Max core file size"))
                assert core.split()[4:6] == ["0", "0"]
        finally:
            process.terminate()


def test_an_attended_box_serves_once_somebody_was_there(attended: Attended, customer: Any) -> None:
    """Unattended it does not start, and no version is given up for that; with the passphrase it answers."""
    with attended.serve() as process:
        assert process.wait(60) == 6
        assert b"--attended" in (process.stderr.read() if process.stderr else b"")
    made = customer.must("appliance", "token", "create", "x", "--state", attended.state, "--json")
    with attended.serve("--attended") as process:
        try:
            url_file = attended.state.with_name("url")
            while not url_file.exists():
                assert process.poll() is None
                time.sleep(0.1)
            url = url_file.read_text().strip()
            headers = {"Authorization": f"Bearer {json.loads(made)['token']}", "Content-Type": "application/json"}
            body = json.dumps({"question": "Where do I reset my password?"}).encode()
            with urlopen(Request(f"{url}/v1/faq", body, headers)) as answer:
                assert answer.status == 200
        finally:
            process.terminate()
    status = [sys.executable, "-m", "appliance", "status", "--state", str(attended.state), "--json"]
    told = subprocess.run(status, env=attended.environment, capture_output=True, text=True, check=True)
    assert "NOT answer" in json.loads(told.stdout)["comes_back_alone"]
    assert "key file" not in told.stdout
