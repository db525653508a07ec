"""`lifeboat lock` with a real registry: tags that moved, files of one artifact, and images."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bundler.cli import main
from bundler.lock import Pin, lock_path, read_lock

pytestmark = pytest.mark.skipif(not shutil.which("skopeo"), reason="apt-get install skopeo")
PROFILE = """
[bundle]
name = "demo"
title = "Demo"
[[model]]
name = "chat"
source = "registry:{host}/models:1/chat.gguf"
licence = "MIT"
[[model]]
name = "ranks"
source = "registry:{host}/models:1/ranks.gguf"
licence = "MIT"
serves = "rerank"
[[image]]
name = "sink"
source = "registry:{host}/sink:1"
"""


class Office:
    """A profile whose sources are tags of one registry."""

    def __init__(self, folder: Path, oci: Any, host: str, make_gguf: Any) -> None:
        self.oci, self.host, self.profile, self._home = oci, host, folder / "demo.toml", folder / "home"
        self._make_gguf = make_gguf
        self.profile.write_text(PROFILE.format(host=host))

    def push(self, text: bytes) -> None:
        """Moves every tag."""
        models, title = self.oci.Pusher(self.host, "models"), "org.opencontainers.image.title"
        tensors = {"chat": "token_embd.weight", "ranks": "cls.weight"}
        named = {
            f"{name}.gguf": self._make_gguf(tensor=tensor, words={"general.name": f"{name} {text.decode()}"})
            for name, tensor in tensors.items()
        }
        blobs = [models.blob(data, "application/gguf", annotations={title: name}) for name, data in named.items()]
        models.artifact(blobs, "1")
        self.oci.Pusher(self.host, "sink").image({"hello": text}, "1")

    def lock(self, *words: str) -> Result:
        rest = ["lock", str(self.profile), *words, "--home", str(self._home)]
        return CliRunner().invoke(main, rest, catch_exceptions=False)

    def pins(self) -> dict[str, Pin]:
        """The pins, by the last word of their sources."""
        return {text.rpartition("/")[2]: pin for text, pin in read_lock(lock_path(self.profile)).pins.items()}


@pytest.fixture
def office(tmp_path: Path, registry: Any, load_script: Any, make_gguf: Any) -> Office:
    made = Office(tmp_path, load_script("oci_images"), registry.host, make_gguf)
    made.push(tmp_path.name.encode())
    return made


def test_tags_stay_where_the_lock_has_them(office: Office) -> None:
    """Without --update a tag that moved is taken where it was; with it, every one is shown and moves."""
    assert office.lock().exit_code == 0
    before = office.pins()
    office.push(b"moved")
    assert office.lock().exit_code == 0
    assert office.pins() == before
    moved = office.lock("--update", "--yes")
    assert moved.exit_code == 0, moved.stderr
    after = office.pins()
    assert all(after[name].resolved != before[name].resolved for name in before)


def test_files_of_one_artifact_move_together(office: Office) -> None:
    """Who moves one model of an artifact moves the other: a mix of two artifacts is nobody's."""
    office.lock()
    before = office.pins()
    office.push(b"once more")
    done = office.lock("--update", "chat", "--yes")
    assert done.exit_code == 0, done.stderr
    after = office.pins()
    assert after["chat.gguf"].resolved == after["ranks.gguf"].resolved != before["chat.gguf"].resolved
    assert after["sink:1"] == before["sink:1"]


def test_a_signature_that_came_later_is_shown_before_it_is_taken(office: Office) -> None:
    """The tag stands where it stood, and what is attached to its image does not."""
    office.lock()
    before = office.pins()
    push = office.oci.Pusher(office.host, "sink")
    push.artifact([push.blob(b"{}", "application/json")], f"sha256-{before['sink:1'].resolved[7:]}.sig")
    assert office.lock().exit_code == 0
    assert office.pins() == before
    done = office.lock("--update", "sink", "--yes")
    assert done.exit_code == 0, done.stderr
    assert "sink:1" in done.stdout
    after = office.pins()["sink:1"]
    assert (after.resolved, len(before["sink:1"].parts), len(after.parts)) == (before["sink:1"].resolved, 0, 1)
