"""A model and a container image from a real registry: built, installed, in podman, and the model answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

pytestmark = [
    pytest.mark.llm,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not shutil.which("skopeo"), reason="apt-get install skopeo"),
]
PROFILE = """
[bundle]
name = "from-a-registry"
title = "From a registry"

[[model]]
name = "small"
source = "registry:{host}/models/smollm:1/model.gguf"
licence = "Apache-2.0"
context_tokens = 512
max_output_tokens = 24

[[image]]
name = "ticket-sink"
source = "registry:{host}/tools/sink:1"

[[image]]
name = "every-machine"
source = "registry:{host}/tools/many:1"
platform = "all"
"""


@dataclass(frozen=True)
class Office:
    """One MSP and one box, in folders of their own; podman keeps its images there, too."""

    folder: Path
    host: str
    digests: dict[str, str]

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    def environment(self) -> dict[str, str]:
        own = {
            "LIFEBOAT_HOME": str(self.folder / "home"),
            "NO_COLOR": "1",
            "LIFEBOAT_STATE": str(self.folder / "state"),
        }
        return {**os.environ, **own, "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf")}

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*map(str, words)], env=self.environment(), capture_output=True, text=True, timeout=280, check=False
        )

    def must(self, program: str, *words: str | Path) -> str:
        done = self.run(sys.executable, "-m", program, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def podman_images(self) -> dict[str, str]:
        """The ids of podman's images by name."""
        done = self.run("podman", "images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}")
        return dict(line.split() for line in done.stdout.splitlines())


@pytest.fixture(scope="module")
def office(
    registry: Any, load_script: Any, smollm_gguf: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Office]:
    oci, folder = load_script("oci_images"), tmp_path_factory.mktemp("office")
    models = oci.Pusher(registry.host, "models/smollm")
    layer = models.blob(
        smollm_gguf.read_bytes(),
        "application/vnd.cncf.model.weight.v1.raw",
        annotations={"org.cncf.model.filepath": "model.gguf"},
    )
    models.artifact([layer], "1", "application/vnd.cncf.model.config.v1+json")
    sink = oci.Pusher(registry.host, "tools/sink").image({"hello": b"a sink"}, "1")
    many = oci.Pusher(registry.host, "tools/many")
    images = [many.image({"hello": arch.encode()}, architecture=arch) for arch in ("arm64", "amd64")]
    index = many.index(images, "1")
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "vfs"\nrunroot = "{folder}/run"\ngraphroot = "{folder}/graph"\n'
    )
    (folder / "pass").write_text("correct horse\n")
    (folder / "profile.toml").write_text(PROFILE.format(host=registry.host))
    made = Office(folder, registry.host, {"ticket-sink": sink["digest"], "every-machine": index["digest"]})
    keys = ("--passphrase-file", folder / "pass")
    made.must("bundler", "init", "--name", "Northquay", *keys)
    made.must("bundler", "build", folder / "profile.toml", "--repository", made.repository, "--yes", *keys)
    site = made.must("bundler", "site", "add", "bristol", "--repository", made.repository, "--json", *keys)
    (folder / "code").write_text(json.loads(site)["code"])
    yield made
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def installed(office: Office) -> str:
    if not shutil.which("podman"):
        pytest.skip("apt-get install podman")
    words = ("install", office.repository, "--site", "bristol", "--site-code-file", office.folder / "code")
    return office.must("appliance", *words)


@contextmanager
def _serving(office: Office) -> Iterator[tuple[str, str]]:
    token = json.loads(office.must("appliance", "token", "create", "test", "--json"))["token"]
    url = office.folder / "url"
    words = [sys.executable, "-m", "appliance", "serve", "--port", "0", "--port-file", str(url)]
    with (office.folder / "log").open("wb") as log:
        process = subprocess.Popen(words, env=office.environment(), stdout=log, stderr=log)
    try:
        until = time.monotonic() + 120
        while not url.exists():
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
        yield url.read_text().strip(), token
    finally:
        process.terminate()
        process.wait(60)


def _asked(url: str, token: str) -> dict[str, Any]:
    body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": "Say hello."}]}).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with urlopen(Request(f"{url}/v1/chat/completions", body, headers)) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def test_the_lock_pins_what_the_tags_stood_for(office: Office) -> None:
    """Tags are resolved to digests in the lock; no registry's word is taken again."""
    pins = json.loads((office.folder / "profile.lock").read_text())["pins"]
    assert pins[f"registry:{office.host}/tools/sink:1"]["resolved"] == office.digests["ticket-sink"]
    assert pins[f"registry:{office.host}/models/smollm:1/model.gguf"]["resolved"].startswith("sha256:")


def test_the_images_are_in_podman_and_none_runs(office: Office, installed: str) -> None:
    """`install` loads each image under a name of ours, the box's platform of a multi-platform one, and starts none."""
    short = office.digests["ticket-sink"].removeprefix("sha256:")[:12]
    images = office.podman_images()
    assert f"localhost/lifeboat/ticket-sink:{short} in podman, not started" in installed
    assert images[f"localhost/lifeboat/ticket-sink:{short}"] == images["localhost/lifeboat/ticket-sink:current"]
    assert "localhost/lifeboat/every-machine:current" in images
    assert office.run("podman", "ps", "--all", "--quiet").stdout == ""
    assert "ticket-sink" in office.must("appliance", "status")


def test_the_model_answers(office: Office, installed: str) -> None:
    """The model that came as an artifact answers on the box."""
    assert installed
    answer = None
    with _serving(office) as (url, token):
        until = time.monotonic() + 120
        while answer is None and time.monotonic() < until:
            with suppress(HTTPError):  # while it loads
                answer = _asked(url, token)
    assert answer is not None
    assert answer["choices"][0]["message"]["content"].strip()


def test_an_image_is_exported_as_a_layout(office: Office, installed: str, tmp_path: Path) -> None:
    """Who has another engine gets the layout as the bundle holds it, which skopeo reads, with its digest."""
    assert installed
    folder = tmp_path / "layout"
    office.must("appliance", "image", "export", "every-machine", folder)
    raw = office.run("skopeo", "inspect", "--raw", f"oci:{folder}:every-machine")
    assert len(json.loads(raw.stdout)["manifests"]) == 2
    again = office.run(sys.executable, "-m", "appliance", "image", "export", "every-machine", folder)
    assert (again.returncode, "is there already" in again.stderr) == (7, True)
    inside = office.run(
        sys.executable, "-m", "appliance", "image", "export", "every-machine", office.folder / "state/x"
    )
    assert "lies in the state" in inside.stderr


def test_the_builder_shows_and_exports_them(office: Office, tmp_path: Path) -> None:
    """`inspect` names the image's files, and `inspect --export` writes them."""
    keys = ("--passphrase-file", office.folder / "pass")
    shown = office.must("bundler", "inspect", office.repository, "--contents", *keys)
    assert f"images/ticket-sink/blobs/sha256/{office.digests['ticket-sink'].removeprefix('sha256:')}" in shown
    planned = office.must("bundler", "plan", office.folder / "profile.toml")
    assert [line.split()[:2] for line in planned.splitlines() if "tools/" in line] == [["pinned", "image"]] * 2
