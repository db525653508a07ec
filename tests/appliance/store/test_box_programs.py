"""A program comes off a medium whole and as it was signed, or the box has none of that name."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.store import unpacking
from appliance.store.programs import Programs, is_newer, newest
from appliance.store.unpacking import LOCK, MARKER, STAGED, discard, is_unfinished, is_whole, misfit, unpack
from bundler.files import DISK, FileLayer, exclusive
from bundler.format.errors import BadBundle, BadInput, Busy, FileMissing, LifeboatError, NotReady, PartMissing
from bundler.format.trust.verify import TargetFile
from bundler.terminal import Terminal

QUIET = Terminal(quiet=True)
WHEELS = {f"{name}-1.0-py3-none-any.whl": name.encode() * 100 for name in ("lifeboat_ai", "click", "pip")}


class Stopped(Exception):
    """The power went here."""


class Halting(FileLayer):
    """Stops before the step of this number; what was renamed before is there."""

    def __init__(self, left: int) -> None:
        self._left = left

    def rename(self, source: Path, target: Path) -> None:
        self._step()
        super().rename(source, target)

    def make(self, folder: Path) -> None:
        self._step()
        super().make(folder)

    def remove(self, path: Path) -> None:
        self._step()
        super().remove(path)

    def _step(self) -> None:
        if self._left == 0:
            raise Stopped
        self._left -= 1


def fake_unpack(wheels: Path, program: Path, layer: FileLayer) -> bool:
    """What `unpack` does, with a script for an interpreter, and no wheel of which anything is installed."""
    return unpack(wheels, program, layer, "")


@pytest.fixture
def medium(tmp_path: Path) -> Path:
    folder = tmp_path / "usb"
    (folder / "metadata").mkdir(parents=True)
    (folder / "runtime" / "1.0").mkdir(parents=True)
    for name, data in WHEELS.items():
        (folder / "runtime" / "1.0" / name).write_bytes(data)
    return folder


@pytest.fixture
def files() -> dict[str, TargetFile]:
    listed = {name: TargetFile(len(data), hashlib.sha256(data).hexdigest()) for name, data in WHEELS.items()}
    return {**listed, "install.sh": TargetFile(1, "0" * 64)}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Lets the steps that start processes say what they were asked for instead."""
    seen: list[list[str]] = []

    def run(words: list[str], *_: object) -> str:
        seen.append([Path(word).name if word.startswith("/") else word for word in words])
        if "venv" in words:
            (Path(words[-1]) / "bin").mkdir()
        return "1.0\n"

    monkeypatch.setattr(unpacking, "_run", run)
    return seen


def test_a_program_is_installed_from_the_wheels_that_are_listed(
    tmp_path: Path, medium: Path, files: dict[str, TargetFile], quick: list[list[str]]
) -> None:
    """All but pip's own, and nothing that lies beside them; nothing of it is left in between."""
    (medium / "runtime" / "1.0" / "evil-1.0-py3-none-any.whl").write_bytes(b"x")
    programs = Programs(tmp_path / "opt")
    programs.add(medium, "1.0", files, QUIET)
    assert programs.installed() == ["1.0"]
    assert programs.python("1.0") == tmp_path / "opt" / "1.0" / "bin" / "python"
    installed = [word for words in quick for word in words if word.endswith(".whl")]
    assert installed == ["click-1.0-py3-none-any.whl", "lifeboat_ai-1.0-py3-none-any.whl"]
    assert sorted(path.name for path in (tmp_path / "opt").iterdir()) == [LOCK, "1.0"]
    quick.clear()
    programs.add(medium, "1.0", files, QUIET)
    assert quick == []


@pytest.mark.parametrize(
    ("how", "error"),
    [*((how, BadBundle) for how in ("shorter", "changed", "longer", "link", "pipe")), ("missing", FileMissing)],
)
def test_a_wheel_that_is_not_what_was_signed_is_refused(
    tmp_path: Path,
    medium: Path,
    files: dict[str, TargetFile],
    quick: list[list[str]],
    spoil: Callable[[Path, str], None],
    how: str,
    error: type[LifeboatError],
) -> None:
    """Nothing is installed, nothing is started; the medium mended, the same command completes."""
    wheel = medium / "runtime" / "1.0" / "click-1.0-py3-none-any.whl"
    spoil(wheel, how)
    programs = Programs(tmp_path / "opt")
    with pytest.raises(error, match="click"):
        programs.add(medium, "1.0", files, QUIET)
    assert (quick, programs.installed()) == ([], [])
    wheel.unlink(missing_ok=True)
    wheel.write_bytes(WHEELS[wheel.name])
    programs.add(medium, "1.0", files, QUIET)
    assert programs.has("1.0")


def test_a_folder_that_is_a_link_on_the_medium_is_refused(
    tmp_path: Path, medium: Path, files: dict[str, TargetFile]
) -> None:
    """A path leads through no link, at any segment."""
    (medium / "runtime").rename(medium / "elsewhere")
    (medium / "runtime").symlink_to("elsewhere")
    with pytest.raises(BadBundle, match="symbolic link"):
        Programs(tmp_path / "opt").add(medium, "1.0", files, QUIET)


@pytest.mark.usefixtures("quick")
def test_an_install_that_is_stopped_anywhere_can_go_on(
    tmp_path: Path, medium: Path, files: dict[str, TargetFile]
) -> None:
    """At every step there is no program, or a whole one; the next run completes, and removes what was left."""
    for step in range(100):
        folder = tmp_path / f"opt{step}"
        try:
            Programs(folder, Halting(step)).add(medium, "1.0", files, QUIET)
        except Stopped:
            programs = Programs(folder)
            assert programs.has("1.0") == is_whole(folder / "1.0")
            programs.add(medium, "1.0", files, QUIET)
            assert programs.installed() == ["1.0"]
            programs.collect(["1.0"])
            assert sorted(path.name for path in folder.iterdir()) == [LOCK, "1.0"]
            assert not is_unfinished(folder / "1.0")
        else:
            break
    assert 8 < step < 99


@pytest.mark.usefixtures("quick")
def test_what_was_copied_is_not_copied_again(tmp_path: Path, medium: Path, files: dict[str, TargetFile]) -> None:
    """A run that was stopped while it unpacked needs the medium no more; a copy that this disk spoiled is made anew."""

    def stop(_wheels: Path, _program: Path, _layer: FileLayer) -> bool:
        raise Stopped

    with pytest.raises(Stopped):
        Programs(tmp_path / "opt", unpack=stop).add(medium, "1.0", files, QUIET)
    staged = tmp_path / "opt" / f"{STAGED}1.0" / "runtime" / "1.0"
    assert sorted(path.name for path in staged.iterdir()) == sorted(WHEELS)
    (staged / "click-1.0-py3-none-any.whl").write_bytes(b"spoiled")
    (staged / "evil-1.0-py3-none-any.whl").write_bytes(b"x")
    for name in WHEELS:
        if "click" not in name:
            (medium / "runtime" / "1.0" / name).unlink()
    Programs(tmp_path / "opt").add(medium, "1.0", files, QUIET)
    assert is_whole(tmp_path / "opt" / "1.0")


@pytest.mark.usefixtures("quick")
def test_only_what_is_used_is_kept(tmp_path: Path, medium: Path, files: dict[str, TargetFile]) -> None:
    """The programs of kept versions, the newest, the one that starts at boot; foreign folders are not touched."""
    folder = tmp_path / "opt"
    programs = Programs(folder)
    programs.add(medium, "1.0", files, QUIET)
    for version in ("0.7", "0.8", "0.9", "1.1"):
        (folder / version).mkdir()
        (folder / version / MARKER).write_text("{}")
    (folder / "bin").mkdir()
    (folder / "2.0").mkdir()
    (folder / "2.0" / "mine").write_text("x")
    (folder / f"{STAGED}0.5").mkdir()
    programs.start_with("0.8")
    assert programs.collect(["1.0"]) == ("0.7", "0.9")
    assert programs.installed() == ["0.8", "1.0", "1.1"]
    assert {path.name for path in folder.iterdir()} >= {"bin", "2.0", "current"}
    assert not (folder / f"{STAGED}0.5").exists()
    assert programs.at_boot() == "0.8"
    with pytest.raises(NotReady, match=r"program 0\.7 is not installed"):
        programs.start_with("0.7")


def test_a_foreign_folder_is_never_removed(tmp_path: Path) -> None:
    """Not by an install that wants its name, not as a program, not through a link."""
    target = tmp_path / "opt" / "1.0"
    target.mkdir(parents=True)
    (target / "mine").write_text("x")
    with pytest.raises(BadInput, match="something else"):
        unpack(tmp_path, target)
    with pytest.raises(BadInput, match="something else"):
        discard(target)
    (tmp_path / "opt" / "1.1").symlink_to("1.0")
    with pytest.raises(BadInput, match="something else"):
        unpack(tmp_path, tmp_path / "opt" / "1.1")
    assert (target / "mine").read_text() == "x"


def test_two_runs_do_not_make_one_program(tmp_path: Path) -> None:
    """The second is told that the first is at work."""
    with exclusive(tmp_path / LOCK, ""), pytest.raises(Busy, match="another run is installing"):
        unpack(tmp_path / "wheels", tmp_path / "1.0")


def test_a_program_for_another_machine_is_refused_before_it_is_copied(
    tmp_path: Path, medium: Path, files: dict[str, TargetFile]
) -> None:
    """The names of its wheels tell; nothing is written."""
    minor = sys.version_info.minor
    wrong = f"numpy-2.0-cp3{minor + 1}-cp3{minor + 1}-manylinux_2_28_x86_64.whl"
    with pytest.raises(PartMissing, match=rf"for Python 3\.{minor + 1}, this box has 3\.{minor}"):
        Programs(tmp_path / "opt").add(medium, "1.0", {**files, wrong: TargetFile(1, "0" * 64)}, QUIET)
    assert not (tmp_path / "opt").exists()
    assert misfit([f"x-1-cp3{minor}-cp3{minor}-any.whl", "y-1-cp39-abi3-any.whl", "z-1-py3-none-any.whl"]) == ""
    other = "aarch64" if os.uname().machine == "x86_64" else "x86_64"
    assert "this box is" in misfit([f"x-1-py3-none-manylinux_2_17_{other}.manylinux2014_{other}.whl"])


def test_a_program_that_does_not_start_here_is_a_part_that_is_missing(tmp_path: Path) -> None:
    """With the last line that it said; one that says it is another is none either."""
    (tmp_path / "1.0" / "bin").mkdir(parents=True)
    (tmp_path / "1.0" / "bin" / "python").symlink_to(sys.executable)
    with pytest.raises(PartMissing, match="does not start on this machine: ModuleNotFoundError"):
        unpacking._start(tmp_path / "1.0", "import a_module_that_nobody_has")
    with pytest.raises(PartMissing, match=r"says that it is '0\.9'"):
        unpacking._start(tmp_path / "1.0", "print('0.9')")


def test_the_program_that_runs_is_known_by_its_place(tmp_path: Path) -> None:
    """Through the link that the service starts, too; a checkout or a half-made folder is none."""
    programs = Programs(tmp_path)
    (tmp_path / "1.0").mkdir()
    assert programs.own(tmp_path / "1.0") == ""
    (tmp_path / "1.0" / MARKER).write_text("{}")
    DISK.replace_link(tmp_path / "current", "1.0")
    assert programs.own(tmp_path / "1.0") == programs.own(tmp_path / "current") == "1.0"
    assert programs.own() == ""


def test_the_newest_program_is_found_among_targets() -> None:
    """By its version, and with its files by their names."""
    targets = {f"runtime/{version}/x.whl": TargetFile(1, version) for version in ("0.9", "0.10", "0.2")}
    assert newest(targets) == ("0.10", {"x.whl": TargetFile(1, "0.10")})
    assert newest({}) is None
    assert is_newer("0.10", "0.9")
    assert not is_newer("0.9", "0.9.0")
