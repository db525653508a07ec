"""What podman has after kills, rollbacks and removals: what kept versions have, and whatever others put there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from appliance.host.container_engine import Engine
from appliance.host.images import Images
from appliance.host.rollback import roll_back
from appliance.store import image_record
from appliance.store.layout import StateLayout
from bundler.terminal import Terminal

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
# Counts its calls, and kills who called it at the one that is asked for: after the engine did it, or before it loads.
KILLS = """#!/bin/sh
count=$(($(cat "$STEPS/count" 2>/dev/null || echo 0) + 1)); echo $count > "$STEPS/count"
[ "$1-before" = "$STEP" ] && kill -9 $PPID
podman "$@"; code=$?
[ "$count" = "$STEP" ] && kill -9 $PPID
exit $code
"""
LOADS = """
import sys
from datetime import datetime, UTC
from pathlib import Path
from appliance.host import container_engine
from appliance.host.container_engine import Engine
from appliance.host.images import Images
from appliance.store.layout import StateLayout
from bundler.terminal import Terminal
container_engine._PASSED += ("STEPS", "STEP")
state, program = sys.argv[1:]
Images(StateLayout(Path(state)), Terminal(quiet=True), lambda: Engine("podman", (program,))).load(datetime.now(UTC))
"""


@dataclass(frozen=True)
class Killer:
    """Loads the images of a state in a process of its own, which is killed at one call of podman."""

    folder: Path

    def load(self, layout: StateLayout, step: str) -> bool:
        """Returns whether it came to that step, and was killed there."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        program = self.folder / "engine"
        program.write_text(KILLS)
        program.chmod(0o755)
        environment = {**os.environ, "STEPS": str(self.folder), "STEP": step}
        words = [sys.executable, "-c", LOADS, str(layout.root), str(program)]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode != 0


def _load(layout: Any, engine: Engine) -> Any:
    return Images(layout, Terminal(quiet=True), lambda: engine).load(NOW)


def _names(engine: Any) -> dict[str, str]:
    """The ids of all images of podman by name; the id itself is the name of one that has none."""
    words = [*engine.words, "images", "--all", "--no-trunc", "--format", "json"]
    found = json.loads(subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout)
    return {name: item["Id"] for item in found for name in item.get("Names") or [item["Id"]]}


def _copy(layout: StateLayout, target: Path) -> StateLayout:
    return StateLayout(Path(shutil.copytree(layout.root, target, symlinks=True, copy_function=os.link)))


@pytest.fixture
def kill_at(make: Any, box: Any, podman: Any, tmp_path: Path) -> Callable[[str], bool]:
    """Kills a load at a step; then the box loads again, and in another copy moves on until no version has the image."""
    one = make("one")
    first = _copy(box(sink=one), tmp_path / "first")
    box(other=make("two"))
    last = _copy(box(other=make("three")), tmp_path / "last")
    whole = dict.fromkeys((one.reference("sink"), "localhost/lifeboat/sink:current"), one.config)

    def killed(step: str) -> bool:
        begun, later = (_copy(state, tmp_path / f"{step}-{state.root.name}") for state in (first, last))
        found = Killer(tmp_path / "steps").load(begun, step)
        if begun.images.exists():
            shutil.copy(begun.images, later.images)
        assert set(_names(podman)) <= set(whole)
        _load(later, podman)
        assert {name.partition(":")[0] for name in _names(podman)} <= {"localhost/lifeboat/other"}
        assert [item.problem for item in _load(begun, podman).images] == [""]
        assert whole.items() <= _names(podman).items()
        subprocess.run([*podman.words, "rmi", "--all", "--force"], capture_output=True, timeout=60, check=True)
        return found

    return killed


def test_a_load_that_is_killed_anywhere_leaves_no_image_behind(kill_at: Callable[[str], bool]) -> None:
    """Kill -9 at each call of podman: what has come is on record, a next load uses it, and it goes with its version."""
    assert kill_at("load-before")
    steps = 0
    while kill_at(str(steps + 1)):
        steps += 1
    assert steps >= 5


def test_a_rollback_brings_the_earlier_image_back(make: Any, box: Any, podman: Any) -> None:
    """Version 2 has another image of the same name; back at version 1 podman and the record have that one's alone."""
    one, two = make("one"), make("two")
    _load(box(sink=one), podman)
    layout = box(sink=two)
    _load(layout, podman)
    moves = "localhost/lifeboat/sink:current"
    both = {one.reference("sink"): one.config, two.reference("sink"): two.config}
    assert _names(podman) == {**both, moves: two.config}
    podman.remove(one.reference("sink"))  # somebody tidied up meanwhile
    roll_back(layout.root, "it is worse", NOW)
    record = _load(layout, podman)
    assert _names(podman) == {one.reference("sink"): one.config, moves: one.config}
    assert [item.reference for item in record.images] == [one.reference("sink")]
    assert (record.earlier, image_record.read(layout)) == ((), record)
    for text in ("three", "four"):
        _load(box(other=make(text)), podman)
    assert {name.partition(":")[0] for name in _names(podman)} == {"localhost/lifeboat/other"}


def test_an_image_that_was_there_before_us_stays(make: Any, box: Any, podman: Any, tmp_path: Path) -> None:
    """With a name of its own or with none: we take our names away again, and the image is there as it was."""
    named, bare = make("named"), make("bare")
    for name, one in (("sink", named), ("tap", bare)):
        other = Engine("podman", podman.words)
        _load(box(**{name: one}), other)
    words = [*podman.words, "tag", named.config, "docker.io/library/sink:1"]
    subprocess.run(words, capture_output=True, timeout=60, check=True)
    for item in [*_names(podman)]:
        if item.startswith("localhost/lifeboat/"):
            subprocess.run([*podman.words, "untag", item, item], capture_output=True, timeout=60, check=True)
    theirs = {"docker.io/library/sink:1": named.config, bare.config: bare.config}
    assert _names(podman) == theirs
    layout = box(sink=named, tap=bare)
    layout.images.unlink()  # as on a box that begins
    record = _load(layout, podman)
    assert [item.was_there for item in record.images] == [True, True]
    assert len(_names(podman)) == 5
    for text in ("three", "four"):
        _load(box(other=make(text)), podman)
    assert {name: found for name, found in _names(podman).items() if "/other:" not in name} == theirs


def test_our_name_on_an_image_of_others_is_theirs(make: Any, box: Any, podman: Any) -> None:
    """Who gives a name of ours to another image finds it there when our version is gone."""
    one, two = make("one"), make("two")
    _load(box(sink=one, tap=two), podman)
    podman.tag(two.config, one.reference("sink"))
    for text in ("three", "four"):
        _load(box(other=make(text)), podman)
    left = {name: found for name, found in _names(podman).items() if "/other:" not in name}
    assert left == {one.reference("sink"): two.config}


def test_two_names_of_one_image_come_and_go_apart(make: Any, box: Any, podman: Any) -> None:
    """It is stored once; when one name leaves the bundle the other stays, and after both nothing is left."""
    one = make("one")
    _load(box(sink=one, tap=one), podman)
    assert set(_names(podman).values()) == {one.config}
    layout = box(tap=one, other=make("x"))
    for text in ("y", "z"):
        _load(layout, podman)
        layout = box(tap=one, other=make(text))
    record = _load(layout, podman)
    assert [name for name in _names(podman) if "/sink:" in name] == []
    assert _names(podman)[one.reference("tap")] == _names(podman)["localhost/lifeboat/tap:current"] == one.config
    assert not record.images[0].was_there
    for text in ("v", "w"):
        _load(box(other=make(text)), podman)
    assert {name.partition(":")[0] for name in _names(podman)} == {"localhost/lifeboat/other"}


def test_an_image_that_was_packed_anew_keeps_its_moving_name(make: Any, box: Any, podman: Any) -> None:
    """Another manifest of the same config is the same image: `current` stays when the first manifest's name goes."""
    first, second = make("one"), make("one", level=1)
    assert (first.config, first.layout.top) != (second.config, second.layout.top)
    assert first.config == second.config
    _load(box(sink=first), podman)
    for text in ("x", "y"):
        _load(box(sink=second, other=make(text)), podman)
    names = {name: found for name, found in _names(podman).items() if "/sink:" in name}
    assert names == dict.fromkeys((second.reference("sink"), "localhost/lifeboat/sink:current"), first.config)


def test_a_name_that_somebody_took_away_is_nothing_to_do(make: Any, box: Any, podman: Any) -> None:
    """The other name of the same image goes all the same, and the image with it."""
    one = make("one")
    _load(box(sink=one), podman)
    podman.release(one.reference("sink"))
    for text in ("three", "four"):
        _load(box(other=make(text)), podman)
    assert {name.partition(":")[0] for name in _names(podman)} == {"localhost/lifeboat/other"}


def test_docker_keeps_an_image_whose_last_name_is_ours(make: Any, box: Any, docker: Any) -> None:
    """It knows no way to take the last name from an image and to leave the image."""
    one = make("one")
    _load(box(sink=one), docker)
    for name in ("localhost/lifeboat/sink:current", one.reference("sink")):
        docker.release(name)
    assert docker.image_id("localhost/lifeboat/sink:current") == ""
    assert docker.image_id(one.reference("sink")) == one.config
