"""`install.sh` on a medium that is not as it was, and with words that mean nothing: told, and nothing is installed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from bundler.capture.runtime import read_wheelhouse

SHELL = shutil.which("dash") or "sh"


@dataclass(frozen=True)
class Bench:
    """A medium with a program that nobody could run, and the copy of its script."""

    folder: Path

    @property
    def wheel(self) -> Path:
        return self.folder / "usb" / "runtime" / "1.0" / "h11-0.1-py3-none-any.whl"

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [SHELL, str(self.folder / "install.sh"), str(self.folder / "usb"), "--no-service"]
        command += ["--prefix", str(self.folder / "opt"), "--state", str(self.folder / "state"), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=self.folder, timeout=120)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, make_house: Callable[[Path, str], Path]) -> tuple[Path, bytes]:
    """The wheels, and the script that was made for them."""
    folder = make_house(tmp_path_factory.mktemp("house"), "1.0")
    return folder, read_wheelhouse(folder).files[-1].data


@pytest.fixture
def bench(tmp_path: Path, house: tuple[Path, bytes]) -> Bench:
    shutil.copytree(house[0], tmp_path / "usb" / "runtime" / "1.0")
    (tmp_path / "install.sh").write_bytes(house[1])
    (tmp_path / "usb" / "metadata").mkdir()
    return Bench(tmp_path)


@pytest.mark.parametrize(
    ("how", "code"),
    [("shorter", 14), ("longer", 14), ("changed", 14), ("link", 16), ("pipe", 16), ("missing", 16)],
)
def test_a_wheel_that_is_not_what_the_script_names_is_refused(
    bench: Bench, spoil: Callable[[Path, str], None], how: str, code: int
) -> None:
    """By name; no program is made, and what was copied before it is not copied again."""
    spoil(bench.wheel, how)
    done = bench.run()
    assert done.returncode == code, done.stderr
    assert f"RED: runtime/1.0/{bench.wheel.name}" in done.stderr
    assert not (bench.folder / "opt" / "1.0").exists()
    assert not (bench.folder / "state").exists()
    assert [path.name for path in (bench.folder / "opt" / ".wheels-1.0").glob("*part*")] == []


def test_what_does_not_start_is_no_program(bench: Bench) -> None:
    """Wheels that are as they were signed and cannot even install themselves: refused, and refused again."""
    for _ in range(2):
        done = bench.run()
        assert done.returncode not in (0, 14, 16)
        assert "RED: Lifeboat 1.0 could not be installed" in done.stderr
        assert not (bench.folder / "opt" / "1.0" / "lifeboat.json").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--prefix"], 2, "wants a value"),
        (["--nonsense"], 2, "no option"),
        (["--prefix", "relative"], 2, "not absolute"),
        (["--python", "/bin/false"], 5, "does not run"),
        (["/other"], 2, "more than one medium"),
    ],
)
def test_what_is_wrong_with_the_words_is_told(bench: Bench, words: list[str], code: int, said: str) -> None:
    """Before anything was written, with the exit codes of the programs."""
    done = bench.run(*words)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert not (bench.folder / "opt").exists()


def test_a_folder_that_is_no_medium_is_told(bench: Bench) -> None:
    """The wrong stick, or none."""
    shutil.rmtree(bench.folder / "usb" / "metadata")
    assert bench.run().returncode == 16
