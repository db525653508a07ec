"""Images of a bundle in the real podman and the real docker: checked, named by us, removed, and never in the way."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from appliance.cli import main
from appliance.host import container_engine
from appliance.host.container_engine import Engine, find_engine
from appliance.host.images import Images, after_switch
from appliance.store import image_record
from bundler.files import exclusive, write_atomic
from bundler.format.errors import BadBundle, PartMissing
from bundler.format.oci import machine_platform
from bundler.terminal import Terminal

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HERE = machine_platform(os.uname().machine)


def _load(layout: Any, engine: Any) -> Any:
    return Images(layout, Terminal(quiet=True), lambda: engine).load(NOW)


@contextmanager
def _words(tmp_path: Path, script: str) -> Iterator[Engine]:
    """An engine that is a script."""
    program = tmp_path / "engine"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    yield Engine("podman", (str(program),))


@pytest.mark.parametrize("kind", ["podman", "docker"])
@pytest.mark.parametrize("schema2", [False, True], ids=["oci", "schema 2"])
def test_an_engine_holds_what_the_bundle_holds(
    request: pytest.FixtureRequest, kind: str, make: Any, box: Any, *, schema2: bool
) -> None:
    """The id in the engine is the digest of the config; a second load asks only whether it is there."""
    engine, made = request.getfixturevalue(kind), make("here", docker=schema2)
    layout = box(sink=made)
    record = _load(layout, engine)
    assert [item.line for item in record.images] == [f"image sink: {made.reference('sink')} in {kind}, not started"]
    assert engine.image_id(made.reference("sink")) == made.config
    assert engine.image_id("localhost/lifeboat/sink:current") == made.config
    assert _load(layout, engine) == record
    assert engine.loads == ["load"]


def test_an_image_goes_with_the_last_version_that_has_it(make: Any, box: Any, podman: Any) -> None:
    """The version before may be gone back to, so its image stays; then it goes, and `current` has moved on."""
    first, second, third = (make(text) for text in ("one", "two", "three"))
    for made in (first, second):
        layout = box(sink=made)
        _load(layout, podman)
    assert podman.image_id(first.reference("sink")) == first.config
    _load(box(sink=third), podman)
    assert podman.image_id(first.reference("sink")) == ""
    assert podman.image_id(second.reference("sink")) == second.config
    assert podman.image_id("localhost/lifeboat/sink:current") == third.config


def test_a_damaged_version_to_go_back_to_keeps_no_image_from_its_record(make: Any, box: Any, podman: Any) -> None:
    """What is loaded is told as loaded; of earlier images none goes, since nobody knows which of them it had."""
    first, second = make("one"), make("two")
    _load(box(sink=first), podman)
    layout = box(sink=second)
    for path in layout.version(1).rglob("*.json"):
        path.write_bytes(b"{}")
    record = _load(layout, podman)
    assert record.images[0].engine == "podman"
    assert [item.reference for item in record.earlier] == [first.reference("sink")]
    assert image_record.read(layout) == record
    assert podman.image_id(first.reference("sink")) == first.config


def test_an_image_that_a_bundle_no_longer_has_leaves_no_name(make: Any, box: Any, podman: Any) -> None:
    """Two versions on, neither the image nor `current` of it is there."""
    made = make("one")
    _load(box(sink=made), podman)
    for text in ("two", "three"):
        layout = box(other=make(text))
        _load(layout, podman)
    assert podman.image_id(made.reference("sink")) == podman.image_id("localhost/lifeboat/sink:current") == ""


def test_one_bad_image_keeps_the_others_from_nothing(make: Any, box: Any, podman: Any) -> None:
    """An image for another machine is told; the other one is loaded."""
    good = make("good")
    layout = box(good=good, other=make("other", "linux/s390x"))
    told = {item.name: item for item in _load(layout, podman).images}
    assert told["good"].engine == "podman"
    assert told["other"].problem == f"other is an image for linux/s390x, this machine is {HERE}"


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ('[ "$1" = load ] && { cat > /dev/null; echo "no space left" >&2; exit 125; }; exit 1', "no space left"),
        ('[ "$1" = load ] && { echo "storage is locked" >&2; exit 125; }; exit 1', "storage is locked"),
        ('[ "$1" = load ] && { cat > /dev/null; exit 0; }; [ "$1" = image ] && echo 0123; exit 0', "holds 0123"),
        ("exit 1", "does not take it"),
    ],
    ids=["full", "at once", "another image", "nothing works"],
)
def test_an_engine_that_fails_is_told(make: Any, box: Any, tmp_path: Path, script: str, told: str) -> None:
    """Whatever an engine does, the problem is on record for `status` and `check`."""
    layout = box(sink=make("x"))
    with _words(tmp_path, script) as engine:
        record = _load(layout, engine)
    assert told in record.images[0].problem
    assert image_record.problems(image_record.read(layout), record.bundle) == [record.images[0].line]


@pytest.mark.parametrize(
    ("script", "limit", "told"),
    [
        ("exec sleep 60", "_STILL_S", "stands still"),
        ("cat > /dev/null; exec sleep 60", "_LOAD_S", "does not end"),
    ],
    ids=["reads nothing", "never ends"],
)
def test_an_engine_that_hangs_holds_nobody(
    make: Any, box: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, limit: str, told: str
) -> None:
    """It is killed after a while and told as any other failure: `install` has switched, and ends well."""
    monkeypatch.setattr(container_engine, limit, 0.5)
    layout = box(sink=make("x", filler=os.urandom(200_000)))  # more than a pipe holds
    start = time.monotonic()
    with _words(tmp_path, f'[ "$1" = load ] || exit 1; {script}') as engine:
        record = _load(layout, engine)
    assert told in record.images[0].problem
    assert time.monotonic() - start < 30


def test_an_export_that_fails_leaves_nothing(make: Any, box: Any, tmp_path: Path) -> None:
    """Half a layout would be in the way of the next try."""
    layout = box(sink=make("x"))
    volume = max(layout.repository.glob("bundles/*/vol/*.age"), key=lambda path: path.stat().st_size)
    data = bytearray(volume.read_bytes())
    data[-200] ^= 1
    volume.write_bytes(data)
    with pytest.raises(BadBundle):
        Images(layout, Terminal(quiet=True)).export("sink", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_machine_without_an_engine_is_told_and_no_problem(
    make: Any, box: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither podman nor docker: `install` says so once with the way out, and monitoring stays quiet."""
    layout = box(sink=make("x"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert after_switch(layout, Terminal(), NOW) == []
    assert "image export NAME FOLDER" in capsys.readouterr().err
    record = image_record.read(layout)
    assert record is not None
    assert image_record.problems(record, record.bundle) == []
    assert image_record.lines(record, record.bundle) != []


def test_engines_that_are_left_alone_stay_so(make: Any, box: Any, podman: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`install --no-images` holds for the rollback after it, until somebody asks for images again."""
    monkeypatch.setattr(Images.__init__, "__defaults__", (lambda: podman,))
    first = make("one")
    layout = box(sink=first)
    assert after_switch(layout, Terminal(quiet=True), NOW, wanted=False) == []
    told = after_switch(layout, Terminal(quiet=True), NOW)
    assert "left alone" in told[0]
    assert (podman.image_id(first.reference("sink")), image_record.read(layout)) == ("", None)
    _load(layout, podman)  # as `image load` does
    assert podman.image_id(first.reference("sink")) == first.config
    second = make("two")
    assert after_switch(box(sink=second), Terminal(quiet=True), NOW)[0].endswith("in podman, not started")
    assert podman.image_id(second.reference("sink")) == second.config


def test_images_that_are_asked_for_come_after_all(make: Any, box: Any, podman: Any, monkeypatch: Any) -> None:
    """`install` without the flag, and `rollback --images`, load what the last one left alone."""
    monkeypatch.setattr(Images.__init__, "__defaults__", (lambda: podman,))
    made = make("one")
    layout = box(sink=made)
    after_switch(layout, Terminal(quiet=True), NOW, wanted=False)
    assert after_switch(layout, Terminal(quiet=True), NOW, wanted=True)[0].endswith("in podman, not started")
    assert podman.image_id(made.reference("sink")) == made.config


def test_rollback_says_it_itself(make: Any, box: Any, podman: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--no-images` leaves the engine alone where the install before it did not, and tells nothing of images."""
    monkeypatch.setattr(Images.__init__, "__defaults__", (lambda: podman,))
    for text in ("one", "two"):
        layout = box(sink=make(text))
    done = CliRunner().invoke(main, ["rollback", "--state", str(layout.root), "--no-images"], catch_exceptions=False)
    assert (done.exit_code, "image" in done.output, podman.loads) == (0, False, [])
    assert "left alone, as was said last" in after_switch(layout, Terminal(quiet=True), NOW)[0]


def test_images_that_are_asked_for_at_a_bad_moment_are_wanted_still(
    make: Any, box: Any, podman: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`install` that meets another loading does not leave an older `--no-images` in force."""
    monkeypatch.setattr(Images.__init__, "__defaults__", (lambda: podman,))
    made = make("one")
    layout = box(sink=made)
    after_switch(layout, Terminal(quiet=True), NOW, wanted=False)
    with exclusive(layout.run / "images.lock", "images are being loaded on this box"):
        assert after_switch(layout, Terminal(quiet=True), NOW, wanted=True) == []
    assert podman.image_id(made.reference("sink")) == ""
    assert after_switch(layout, Terminal(quiet=True), NOW)[0].endswith("in podman, not started")


def test_what_keeps_images_from_loading_keeps_nothing_else(
    make: Any, box: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A state that cannot be read for images is a warning: the version has switched already."""
    layout = box(sink=make("x"))

    def refused(*_: object) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(image_record, "write", refused)
    monkeypatch.setattr(container_engine, "_SOCKETS", ())
    assert after_switch(layout, Terminal(), NOW) == []
    assert "images are not loaded: no" in capsys.readouterr().err


def test_damage_is_found_before_an_engine_has_it_whole(make: Any, box: Any, podman: Any) -> None:
    """A volume that this disk changed gives no image."""
    layout = box(sink=make("x"))
    for volume in layout.repository.glob("bundles/*/vol/*.age"):
        data = bytearray(volume.read_bytes())
        data[-200] ^= 1
        volume.write_bytes(data)
    assert "image sink: not loaded" in _load(layout, podman).images[0].line
    assert podman.image_id("localhost/lifeboat/sink:current") == ""


def test_root_removes_no_name_that_is_not_ours(make: Any, box: Any, podman: Any) -> None:
    """The record lies where the service may write: a name in it that we never give is no name to act on."""
    layout = box(sink=make("x"))
    record = _load(layout, podman)
    forged = replace(record, earlier=(replace(record.images[0], reference="docker.io/library/postgres:16"),))
    image_record.write(layout, forged)
    assert image_record.read(layout) is None
    write_atomic(layout.images, b"{")
    assert image_record.read(layout) is None


def test_a_record_of_another_bundle_says_so(make: Any, box: Any, podman: Any) -> None:
    """After a rollback nobody takes the later images for those of the bundle that serves."""
    record = _load(box(sink=make("x")), podman)
    assert "`lifeboat-appliance image load`" in image_record.lines(record, "1-0009-00000000")[0]
    assert image_record.problems(record, "1-0009-00000000")


def test_a_remote_engine_is_never_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What points to another machine is not handed on, and docker is asked by its socket here alone."""
    monkeypatch.setenv("CONTAINER_HOST", "ssh://elsewhere")
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:2375")
    with _words(tmp_path, "env > " + str(tmp_path / "env")) as engine:
        engine.image_id("x")
    assert "elsewhere" not in (tmp_path / "env").read_text()
    with pytest.raises(PartMissing):
        find_engine("docker", [tmp_path / "no.sock"])
