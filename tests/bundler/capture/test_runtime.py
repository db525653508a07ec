"""A wheelhouse is a program, whole and for one kind of machine, or nothing of it is shipped."""

from __future__ import annotations

import hashlib
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from bundler.capture.runtime import read_wheelhouse
from bundler.format.errors import BadInput

MakeHouse = Callable[[Path, str], Path]
MakeWheel = Callable[..., Path]


@pytest.fixture
def house(tmp_path: Path, make_house: MakeHouse) -> Path:
    return make_house(tmp_path / "house", "0.2.0")


def test_a_whole_program_is_taken(house: Path) -> None:
    """Every wheel with its digest, and the installer, which names each of them."""
    found = read_wheelhouse(house)
    facts = found.facts
    assert (facts.version, facts.python, facts.machine) == ("0.2.0", "", "")
    assert facts.program == "lifeboat_ai-0.2.0-py3-none-any.whl"
    names = {path.name for path in house.iterdir()}
    assert {file.name for file in found.files} == names | {"install.sh"}
    script = found.files[-1].data.decode()
    for path in house.iterdir():
        assert f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_size} {path.name}" in script
    assert "@" not in "".join(line for line in script.splitlines() if line.startswith("version="))


def test_the_same_wheels_give_the_same_installer(house: Path) -> None:
    """Nothing of the day or of this machine is in it."""
    assert read_wheelhouse(house) == read_wheelhouse(house)


@pytest.mark.skipif(shutil.which("dash") is None, reason="dash is not installed")
def test_the_installer_is_posix_shell(house: Path, tmp_path: Path) -> None:
    """It parses there, and its help needs nothing else."""
    script = tmp_path / "install.sh"
    script.write_bytes(read_wheelhouse(house).files[-1].data)
    done = subprocess.run(["dash", str(script), "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Installs Lifeboat 0.2.0" in done.stdout


@pytest.mark.parametrize(
    ("files", "record", "said"),
    [
        ({"../evil.py": b"x"}, {}, "leads outside"),
        ({"numpy/../../evil.py": b"x"}, {}, "leads outside"),
        ({"/etc/evil": b"x"}, {}, "leads outside"),
        ({"numpy\\evil.py": b"x"}, {}, "is named"),
        ({"C:/evil.py": b"x"}, {}, "is named"),
        ({"numpy/a\nb": b"x"}, {}, "is named"),
        ({"other-1.0.dist-info/METADATA": b"Name: other\n"}, {}, "2 dist-info folders"),
        ({"numpy/x.py": b"x"}, {"numpy/x.py": "sha256=AAAA"}, "differs from RECORD"),
        ({"numpy/x.py": b"x"}, {"numpy/x.py": "absent"}, "RECORD and members differ: numpy/x.py"),
        ({}, {"numpy/gone.py": "sha256=AAAA"}, "RECORD and members differ: numpy/gone.py"),
        ({"numpy-2.0.dist-info/WHEEL": b"Wheel-Version: 2.0\n"}, {}, "wheel version ['2.0']"),
        ({"numpy-2.0.dist-info/METADATA": b"Name: numpy\nVersion: 1.0\n"}, {}, "it is numpy 1.0"),
        ({"numpy/zeros": bytes(3_000_000)}, {}, ""),
    ],
)
def test_a_bad_wheel_is_told(
    house: Path, make_wheel: MakeWheel, files: dict[str, bytes], record: dict[str, str], said: str
) -> None:
    """Each way in which an archive may lie; large and honest is fine."""
    make_wheel(house, "numpy-2.0-py3-none-any", files=files, record=record)
    if not said:
        read_wheelhouse(house)
        return
    with pytest.raises(BadInput) as caught:
        read_wheelhouse(house)
    assert f"numpy-2.0-py3-none-any.whl: {said}" in caught.value.fact or said in caught.value.fact


def test_a_link_inside_a_wheel_is_told(house: Path, make_wheel: MakeWheel) -> None:
    """Some installers would make it a link, and write through it."""
    wheel = make_wheel(house, "numpy-2.0-py3-none-any")
    entry = zipfile.ZipInfo("numpy/link", (2026, 1, 1, 0, 0, 0))
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(BadInput, match="is a link or a device"):
        read_wheelhouse(house)


def test_a_damaged_wheel_is_named(house: Path, make_wheel: MakeWheel) -> None:
    """Also where it is the compression that breaks."""
    name = b"numpy/text"
    wheel = make_wheel(house, "numpy-2.0-py3-none-any", record={name.decode(): "sha256=AAAA"})
    with zipfile.ZipFile(wheel, "a") as archive:
        entry = zipfile.ZipInfo(name.decode(), (2026, 1, 1, 0, 0, 0))
        archive.writestr(entry, b"text " * 1_000, zipfile.ZIP_DEFLATED)
    data = bytearray(wheel.read_bytes())
    place = data.rindex(name, 0, data.rindex(name)) + len(name)  # the last one stands in the central directory
    data[place : place + 8] = b"\xff" * 8
    wheel.write_bytes(data)
    with pytest.raises(BadInput, match=r"numpy-2\.0-py3-none-any\.whl: not a readable archive: Error -3"):
        read_wheelhouse(house)


def test_a_bomb_is_told(house: Path, make_wheel: MakeWheel) -> None:
    """A member that grows a thousandfold is not read."""
    wheel = make_wheel(house, "numpy-2.0-py3-none-any")
    with zipfile.ZipFile(wheel, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("numpy/zeros", (2026, 1, 1, 0, 0, 0)), bytes(64_000_000), zipfile.ZIP_DEFLATED)
    with pytest.raises(BadInput, match="would grow"):
        read_wheelhouse(house)


@pytest.mark.parametrize(
    ("added", "removed", "said"),
    [
        ({}, "numpy-2.0", "onnxruntime needs numpy>=2"),
        ({}, "h11-0.1", "uvicorn needs h11"),
        ({}, "pip-26.0", "no wheel of pip"),
        ({}, "lifeboat_ai-0.2.0", "no wheel of lifeboat-ai"),
        ({"numpy-1.0-py3-none-any": ()}, "numpy-2.0", "needs numpy>=2"),
        ({"numpy-2.1-py3-none-any": ()}, "", "are of one distribution"),
        ({"lifeboat_ai-0.3.0-py3-none-any": ()}, "", "are of one distribution"),
        ({"left_pad-1.0-py3-none-any": ()}, "", "nothing needs left-pad"),
        ({"numpy-2.0-cp311-cp311-win_amd64": ()}, "numpy-2.0", "boxes run Linux"),
        ({"lifeboat_ai-0.2+x-py3-none-any": ()}, "lifeboat_ai-0.2.0", "cannot order"),
        (
            {"numpy-2.0-cp311-cp311-manylinux_2_28_x86_64": (), "h11-0.1-cp312-cp312-manylinux_2_28_x86_64": ()},
            "-2.0 h11",
            "more than one Python",
        ),
        (
            {"numpy-2.0-cp311-cp311-manylinux_2_28_x86_64": (), "h11-0.1-py3-none-linux_aarch64": ()},
            "-2.0 h11",
            "more than one machine",
        ),
    ],
)
def test_what_makes_no_program_is_told(
    house: Path, make_wheel: MakeWheel, added: dict[str, tuple[str, ...]], removed: str, said: str
) -> None:
    """What is missing, spare, double, or for another machine."""
    for word in removed.split():
        for path in house.glob(f"*{word}*"):
            path.unlink()
    for stem, requires in added.items():
        make_wheel(house, stem, requires=requires)
    with pytest.raises(BadInput) as caught:
        read_wheelhouse(house)
    assert said in caught.value.fact


def test_the_kind_of_machine_is_read_from_the_wheels(house: Path, make_wheel: MakeWheel) -> None:
    """abi3 binds to no minor version; several platforms of one wheel are one machine."""
    for path in [*house.glob("numpy*"), *house.glob("h11*"), *house.glob("click*")]:
        path.unlink()
    make_wheel(house, "numpy-2.0-cp312-cp312-manylinux_2_27_x86_64.manylinux_2_28_x86_64")
    make_wheel(house, "h11-0.1-cp39-abi3-manylinux2014_x86_64")
    make_wheel(house, "click-8.1-py3-none-linux_x86_64")
    facts = read_wheelhouse(house).facts
    assert (facts.python, facts.machine) == ("3.12", "x86_64")


def test_the_gpu_distribution_stands_for_the_other(house: Path, make_wheel: MakeWheel) -> None:
    """The GPU install resolves onnxruntime away."""
    for path in [*house.glob("onnxruntime*"), *house.glob("lifeboat*")]:
        path.unlink()
    needs = ("click", "uvicorn ; extra == 'appliance'", "onnxruntime-gpu ; extra == 'gpu'", "h11", "numpy")
    make_wheel(house, "lifeboat_ai-0.2.0-py3-none-any", requires=needs)
    make_wheel(house, "onnxruntime_gpu-1.2-py3-none-any")
    make_wheel(house, "uvicorn-0.5-py3-none-any", requires=("onnxruntime>=1",))
    assert read_wheelhouse(house).facts.version == "0.2.0"


@pytest.mark.parametrize("kind", ["text", "link", "folder", "empty"])
def test_a_folder_of_something_else_is_told(house: Path, tmp_path: Path, kind: str) -> None:
    """Only wheels, only regular files, at least one."""
    if kind == "text":
        (house / "notes.txt").write_text("x")
    elif kind == "link":
        (house / "more-1.0-py3-none-any.whl").symlink_to(next(house.iterdir()))
    elif kind == "folder":
        (house / "more-1.0-py3-none-any.whl").mkdir()
    else:
        house = tmp_path / "empty"
        house.mkdir()
    with pytest.raises(BadInput):
        read_wheelhouse(house)
