"""The image of the Containerfile: built on a bare Debian, it installs from a medium and answers without a network."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.llm, pytest.mark.timeout(2400)]
TOOLS = {
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "ip": "iproute2",
}
BASE_PACKAGES = "python3,python3-venv,ca-certificates"
INPUTS = ("Containerfile", "requirements", "pyproject.toml", "README.md", "LICENSE", "bundler", "appliance")
STATE, MEDIUM, USER = "/var/lib/lifeboat", "/media/usb", 970
# What runs in the network of the box, which has loopback only.
CLIENT = """
import json, sys, time, urllib.request
import openai
url, token = sys.argv[1:]
with urllib.request.urlopen(url + "/health/live") as answer:
    live = json.load(answer)
for _ in range(600):
    with urllib.request.urlopen(url + "/status.json") as answer:
        rungs = {rung["rung"]: rung["state"] for rung in json.load(answer)["rungs"]}
    if rungs["smollm2-135m"] == "ready":
        break
    time.sleep(0.1)
with openai.OpenAI(base_url=url + "/v1", api_key=token, max_retries=0) as client:
    asked = client.post("/ask", cast_to=object, body={"question": sys.stdin.read()})
    message = {"role": "user", "content": "What is a lifeboat?"}
    said = client.chat.completions.create(model="auto", messages=[message], max_tokens=8)
print(json.dumps({"live": live, "asked": asked, "chat": said.choices[0].message.content,
                  "rung": said.model_extra["lifeboat"]["rung"]}))
"""


@dataclass(frozen=True)
class Image:
    """A built image, and how containers of it are made; everything lies under one folder of the cache."""

    cache: Path
    name: str

    def buildah(self, *words: str | Path) -> list[str]:
        places = ["--root", str(self.cache / "storage"), "--runroot", str(self.cache / "run")]
        return ["buildah", *places, "--storage-driver", "vfs", *map(str, words)]

    def must(self, *words: str | Path) -> str:
        scratch = {**os.environ, "TMPDIR": str(self.cache / "scratch")}
        done = subprocess.run(self.buildah(*words), capture_output=True, text=True, check=False, env=scratch)
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout.strip()

    def config(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.must("inspect", "--type", "image", self.name))["OCIv1"]["config"]
        return found


def _inputs_digest(root: Path) -> str:
    whole = hashlib.sha256()
    for name in INPUTS:
        top = root / name
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                whole.update(f"{path.relative_to(root)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return whole.hexdigest()[:16]


@pytest.fixture(scope="module")
def image(repo_root: Path) -> Iterator[Image]:
    """The image of this tree, in the cache; built where it is not there."""
    if os.geteuid() != 0:
        pytest.skip("an image is built by root: chroot and user ids")
    _ensure_tools(repo_root)
    cache = repo_root / ".cache" / "image"
    for folder in ("scratch", "storage", "run"):
        (cache / folder).mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = Image(cache, f"localhost/lifeboat-appliance:{_inputs_digest(repo_root)}")
        if not made.must("images", "--quiet", "--filter", f"reference={made.name}"):
            _make_base(made)
            _build(made, repo_root)
        yield made


def _ensure_tools(root: Path) -> None:
    """Installs what is missing as `scripts/environment.py` does; `.ci/run` has installed it before."""
    missing = sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import environment; environment.ensure_packages(sys.argv[2:])"
    )
    command = [sys.executable, "-c", program, str(root / "scripts"), *missing]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"offline, and not installed: {', '.join(missing)}")


def _make_base(image: Image) -> None:
    """A Debian as debootstrap makes it, with Python: what stands for an official base image here."""
    if image.must("images", "--quiet", "--filter", "reference=localhost/debian-python"):
        return
    tree = image.cache / "scratch" / "debian"
    shutil.rmtree(tree, ignore_errors=True)
    words = ["debootstrap", "--variant=minbase", f"--include={BASE_PACKAGES}", "bookworm", str(tree)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if "Failed getting release file" in done.stdout + done.stderr:
        pytest.skip("offline: debootstrap reaches no Debian mirror")
    assert done.returncode == 0, done.stdout[-4000:]
    container = image.must("from", "scratch")
    image.must("add", "--quiet", container, tree, "/")
    image.must("commit", "--quiet", "--rm", container, "localhost/debian-python")
    shutil.rmtree(tree)


def _build(image: Image, root: Path) -> None:
    for old in image.must("images", "--quiet", "--filter", "reference=localhost/lifeboat-appliance").split():
        image.must("rmi", "--force", old)
    words = [
        "--isolation",
        "chroot",
        "--build-arg",
        "BASE=localhost/debian-python",
        "--pull-never",
        "--tag",
        image.name,
    ]
    # The authorities of this machine, for the downloads; they do not become part of the image.
    image.must("build", *words, "--volume", "/etc/ssl/certs:/etc/ssl/certs:ro", root)


@pytest.fixture
def container(image: Image) -> Iterator[str]:
    name = image.must("from", "--pull-never", image.name)
    # From the second run on, buildah hides what is mounted where the image declares a volume; podman does not.
    image.must("config", "--volume", f"{STATE}-", name)
    yield name
    image.must("rm", name)


@contextmanager
def _served(image: Image, container: str, mounts: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The image's own entry point serving, in a network that has loopback only."""
    entry = image.config()["Entrypoint"]
    run = image.buildah("run", "--isolation", "chroot", *mounts, container, "--", *entry, "serve")
    script = 'ip link set lo up && exec "$@"'
    command = ["unshare", "--net", "sh", "-c", script, "sh", *run, "--port-file", f"{STATE}/run/port"]
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            yield process
        finally:
            for child in reversed(_below(process.pid)):
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            process.kill()


def _below(parent: int) -> list[int]:
    """The processes that a process has started, and those below them, nearest first."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [parent]
    for number in found:
        found += [child for child, above in parents.items() if above == number]
    return found[1:]


def _supervisor(process: subprocess.Popen[bytes]) -> int:
    for number in _below(process.pid):
        words = [*Path("/proc", str(number), "cmdline").read_bytes().split(b"\0"), b""]
        # What buildah puts before it has the same words, and another program.
        if b"serve" in words and words[1].endswith(b"/lifeboat-appliance") and b"python" in words[0]:
            return number
    raise AssertionError("no supervisor runs in the container")


def _url(file: Path, process: subprocess.Popen[bytes], log: Path) -> str:
    for _ in range(600):
        if file.exists() and (text := file.read_text().strip()):
            return text
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def test_the_image_says_who_runs_what(image: Image) -> None:
    """A user of its own, the program as entry point, the state as a volume."""
    config = image.config()
    assert config["User"] == "lifeboat"
    assert config["Entrypoint"] == ["/opt/lifeboat/bin/lifeboat-appliance"]
    assert list(config["Volumes"]) == [STATE]
    assert config["StopSignal"] == "SIGTERM"


def test_a_box_in_a_container(image: Image, container: str, customer: Any, repo_root: Path, tmp_path: Path) -> None:
    """Install from a medium, then serve without a network: FAQ and local model answer, and SIGTERM ends it well."""
    state, log = tmp_path / "state", tmp_path / "log"
    state.mkdir(mode=0o700)
    os.chown(state, USER, USER)
    code = tmp_path / "code"
    shutil.copy(customer.code, code)
    code.chmod(0o644)
    mounts = [
        "--volume",
        f"{state}:{STATE}",
        "--volume",
        f"{customer.first}:{MEDIUM}:ro",
        "--volume",
        f"{code}:/code:ro",
    ]
    entry = image.config()["Entrypoint"]
    run = ("run", "--isolation", "chroot", *mounts, container, "--", *entry)
    image.must(*run, "install", MEDIUM, "--site", "bristol", "--site-code-file", "/code")
    token = json.loads(image.must(*run, "token", "create", "client", "--json"))["token"]
    faq = json.loads((repo_root / "profiles" / "demo" / "faq.jsonl").read_text().splitlines()[0])
    with _served(image, container, mounts, log) as process:
        url = _url(state / "run" / "port", process, log)
        supervisor = _supervisor(process)
        assert Path("/proc", str(supervisor)).stat().st_uid == USER
        client = [sys.executable, "-c", CLIENT, url, token]
        enter = ["nsenter", "--target", str(supervisor), "--net", *client]
        told = subprocess.run(enter, input=faq["question"], capture_output=True, text=True, check=False)
        assert told.returncode == 0, told.stderr + log.read_text()
        answers = json.loads(told.stdout)
        assert answers["live"] == {"live": True}
        assert (answers["asked"]["rung"], answers["asked"]["answer"]) == ("helpdesk", faq["answer"])
        assert (answers["rung"], bool(answers["chat"])) == ("smollm2-135m", True)
        os.kill(supervisor, signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
    assert "Traceback" not in log.read_text()
