"""How a box stops: by Ctrl-C in a terminal and by the service manager's SIGTERM."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import httpx2
import openai
import pytest

pytestmark = [pytest.mark.llm, pytest.mark.timeout(300)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_finishes_what_was_accepted(customer: Any, tmp_path: Path, number: signal.Signals) -> None:
    """The stream in flight ends whole, who comes meanwhile gets 503, nothing is left and nothing is printed."""
    state = shutil.copytree(customer.pristine, tmp_path / "state", symlinks=True)
    token = json.loads(customer.must("appliance", "token", "create", "stop", "--state", state, "--json"))
    url_file, log = tmp_path / "url", tmp_path / "log"
    words = ["serve", "--state", str(state), "--port", "0", "--port-file", str(url_file)]
    with log.open("wb") as output:
        command = [sys.executable, "-m", "appliance", *words]
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    with process:
        url = _url_when_ready(url_file, process)
        with openai.OpenAI(base_url=f"{url}/v1", api_key=token["token"], max_retries=0) as client:
            message: Any = {"role": "user", "content": "Count from one to one hundred in words."}
            # Without the tokens that end an answer it is still being made when the late question comes.
            stream = client.chat.completions.create(
                model="smollm2-135m", messages=[message], stream=True, max_tokens=300, logit_bias={"0": -100, "2": -100}
            )
            events = iter(stream)
            next(events)
            os.killpg(process.pid, number)
            _refuses_soon(url, token["token"])
            finished = [event.choices[0].finish_reason for event in events if event.choices]
        assert finished[-1] in ("stop", "length")
        assert process.wait(30) == 0
    assert "Traceback" not in log.read_text()
    assert not _group_is_alive(process.pid)


def _url_when_ready(url_file: Path, process: subprocess.Popen[bytes]) -> str:
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        if url_file.exists():
            url = url_file.read_text().strip()
            with urlopen(f"{url}/status.json") as answer:
                rungs = {rung["rung"]: rung["state"] for rung in json.load(answer)["rungs"]}
            if rungs["smollm2-135m"] == "ready":
                return url
        time.sleep(0.1)
    raise AssertionError("the box did not become ready")


def _refuses_soon(url: str, token: str) -> None:
    """Waits until the box has heard the signal; then a question gets 503 and Retry-After, and the box lives."""
    end = time.monotonic() + 30
    while time.monotonic() < end and httpx2.get(f"{url}/health/ready").status_code != 503:
        time.sleep(0.01)
    body = {"model": "auto", "messages": [{"role": "user", "content": "Too late?"}]}
    late = httpx2.post(f"{url}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {token}"})
    assert (late.status_code, late.json()["error"]["code"]) == (503, "stopping")
    assert int(late.headers["Retry-After"]) > 0
    assert httpx2.get(f"{url}/health/live").status_code == 200


def _group_is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
