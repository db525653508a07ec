"""Makes a program of wheels that were checked before: an environment of its own, proved to start, marked when whole.

`install.sh` runs this file out of the program's own wheel, before anything is installed: it may import only the
standard library and what needs no more than that. The order is: note that it is being made, environment, wheels, first
start, sync, marker. Without the marker a folder is no program, and the next run makes it anew.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from bundler.files import DISK, FileLayer, exclusive, make_folder, write_atomic
from bundler.format.errors import BadInput, LifeboatError, PartMissing, SystemFailed
from bundler.terminal import Terminal, run

MARKER, LOCK, _MAKING = "lifeboat.json", ".lock", ".making"
STAGED = ".wheels-"  # before the version: a private folder for wheels on their way
_TOOL = "pip-"
# Nothing of this machine's pip decides where a program comes from.
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/nonexistent", "PIP_CONFIG_FILE": os.devnull}
_PIP = (
    "install --isolated --no-index --no-deps --no-compile --no-cache-dir --no-input --no-warn-script-location "
    "--disable-pip-version-check --root-user-action=ignore --quiet"
).split()
# The first start also leaves compiled modules behind, which the service may not write.
_FIRST_START = (
    "import appliance.host.serving, appliance.host.serve, appliance.engine.worker, appliance.cli, llama_cpp\n"
    "import importlib.metadata as m; print(m.version('lifeboat-ai'))"
)
_STEP_S = 1_800
_BOUND = re.compile(r"-cp3([0-9]+)-(?!abi3)[a-z0-9_]+-")
_MACHINE = re.compile(r"linux\w*_(x86_64|aarch64)\.")


def is_whole(program: Path) -> bool:
    """Whether a folder holds a program that was made to the end."""
    return (program / MARKER).is_file()


def misfit(names: Iterable[str]) -> str:
    """Says why wheels of these names are not for this Python or machine; "" where they are."""
    for name in names:
        bound, machine = _BOUND.search(name), _MACHINE.search(name)
        if bound and int(bound.group(1)) != sys.version_info.minor:
            return f"it is for Python 3.{bound.group(1)}, this box has 3.{sys.version_info.minor}"
        if machine and machine.group(1) != platform.machine():
            return f"it is for {machine.group(1)}, this box is {platform.machine()}"
    return ""


def unpack(wheels: Path, program: Path, layer: FileLayer = DISK, first_start: str = _FIRST_START) -> bool:
    """Makes a program; returns False where it was whole already. The folder of wheels is removed.

    Args:
        wheels: A private folder that holds its wheels, each checked, and the one of pip.
        program: Where to; its name is the program's version.
        layer: Where faults can be put.
        first_start: What must run in it, and print its version.

    Raises:
        BadInput: Something else lies there.
        PartMissing: It does not start on this machine.
        SystemFailed: A step of it failed.
        Busy: Another run is making one.
    """
    make_folder(program.parent, layer)
    with exclusive(program.parent / LOCK, f"another run is installing a program into {program.parent}"):
        made = not is_whole(program)
        if made:
            _begin(program, layer)
            _fill(wheels, program)
            _start(program, first_start)
            # Thousands of files that others wrote: a sync of each would take minutes.
            os.sync()
            record = {"version": program.name, "wheels": sorted(path.name for path in wheels.glob("*.whl"))}
            write_atomic(program / MARKER, json.dumps(record).encode(), layer=layer)
            (program / _MAKING).unlink()
        shutil.rmtree(wheels, ignore_errors=True)  # what is left is removed by the next run
        return made


def discard(program: Path, layer: FileLayer = DISK) -> None:
    """Removes a program, whole or not; one that is half removed is none, and is known as such by the next run.

    Raises:
        BadInput: Something else lies there.
    """
    if program.is_symlink() or not any((program / name).is_file() for name in (MARKER, _MAKING)):
        raise BadInput(f"{program} is something else than a program of Lifeboat", "choose another folder for programs")
    write_atomic(program / _MAKING, b"", layer=layer)
    if is_whole(program):
        layer.remove(program / MARKER)
        layer.sync_folder(program)
    for path in program.iterdir():
        if path.name == _MAKING:
            continue  # it goes last
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    layer.remove(program / _MAKING)
    program.rmdir()


def is_unfinished(program: Path) -> bool:
    """Whether a folder is what a stopped run left of a program."""
    return (program / _MAKING).is_file() and not is_whole(program)


def _begin(program: Path, layer: FileLayer) -> None:
    if program.is_symlink() or (program.exists() and (not program.is_dir() or any(program.iterdir()))):
        discard(program, layer)
    make_folder(program, layer)
    program.chmod(0o755)
    write_atomic(program / _MAKING, b"", layer=layer)


def _fill(wheels: Path, program: Path) -> None:
    found = sorted(path for path in wheels.glob("*.whl") if not path.name.startswith(_TOOL))
    tool = next(iter(sorted(wheels.glob(f"{_TOOL}*.whl"))), None)
    if tool is None:
        raise SystemFailed(f"{wheels} holds no wheel of pip")
    _run([sys.executable, "-I", "-m", "venv", "--without-pip", str(program)], "its environment cannot be made")
    python = str(program / "bin" / "python")
    _run([python, "-I", str(tool / "pip"), *_PIP, *map(str, found)], "its wheels cannot be installed")


def _start(program: Path, first_start: str) -> None:
    words = [str(program / "bin" / "python"), "-I", "-c", first_start]
    said = _run(words, "it does not start on this machine", PartMissing)
    if said.strip() != program.name:
        raise PartMissing(f"the program in {program} says that it is {said.strip()[:40]!r}")


def _run(words: Sequence[str], wrong: str, kind: type[LifeboatError] = SystemFailed) -> str:
    try:
        # The umask of an administrator may hide from the service what it is to run.
        done = subprocess.run(
            words, env=_ENVIRONMENT, cwd="/", umask=0o022, capture_output=True, text=True, timeout=_STEP_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise SystemFailed(f"{wrong}: it took longer than {_STEP_S} s") from None
    if done.returncode:
        last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        library = re.search(r"(\S+\.so\S*): cannot open shared object", done.stderr)
        hint = "apt-get install libgomp1" if library and "gomp" in library.group(1) else ""
        raise (PartMissing if library else kind)(f"{wrong}: {last[:500]}", hint)
    return done.stdout


def main() -> None:
    """`unpacking WHEELS PROGRAM`, as `install.sh` calls it."""
    wheels, program = map(Path, sys.argv[1:3])
    sys.exit(run(lambda: unpack(wheels, program), Terminal(), "appliance,cpu"))
