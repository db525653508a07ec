"""How a box stops: by Ctrl-C in a terminal and by the service manager's SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import openai
import pytest

pytestmark = [pytest.mark.llm, pytest.mark.timeout(300)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_finishes_what_was_accepted(customer: Any, tmp_path: Path, number: signal.Signals) -> None:
    """The whole process group gets the signal; the stream in flight ends whole, nothing is left, nothing is printed."""
    token = json.loads(customer.must("appliance", "token", "create", "stop", "--state", customer.state, "--json"))
    url_file, log = tmp_path / "url", tmp_path / "log"
    words = ["serve", "--state", str(customer.state), "--port", "0", "--port-file", str(url_file)]
    with log.open("wb") as output:
        command = [sys.executable, "-m", "appliance", *words]
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    with process:
        url = _url_when_ready(url_file, process)
        with openai.OpenAI(base_url=f"{url}/v1", api_key=token["token"], max_retries=0) as client:
            message: Any = {"role": "user", "content": "Count from one to one hundred in words."}
            stream = client.chat.completions.create(
                model="smollm2-135m", messages=[message], stream=True, max_tokens=120
            )
            events = iter(stream)
            next(events)
            os.killpg(process.pid, number)
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


def _group_is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
