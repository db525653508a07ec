#!/usr/bin/env python3
"""Makes a Python environment for Lifeboat from the hash-pinned requirement files; a second run does nothing.

Needs Python 3.11 or newer and nothing else: where `uv` is not on PATH it is put into .cache/bootstrap. Python itself is
never downloaded. Stamps inside the environment name what was installed, so an unchanged one is used without network.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 11)
# mtmd (images) is not used and takes a quarter of the build.
LLAMA_SETTINGS = ("cmake.define.LLAVA_BUILD=OFF",)
LLAMA_SETTINGS_CUDA = (*LLAMA_SETTINGS, "cmake.define.GGML_CUDA=ON", "cmake.define.CMAKE_CUDA_ARCHITECTURES=native")
NINJA_STEP = re.compile(rb"\[(\d+)/(\d+)\]")


class SetupFailed(Exception):
    """The environment cannot be made; the message holds the fact and the way out."""


@dataclass(frozen=True)
class Environment:
    """Where an environment lies and what is in it.

    Args:
        folder: The virtual environment.
        requirements: "cpu", "gpu" or "dev": which file of requirements/ it is made from.
        bootstrap: Where uv is put when it is not on PATH.
    """

    folder: Path
    requirements: str
    bootstrap: Path = ROOT / ".cache" / "bootstrap"

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def digest(self, part: str) -> str:
        """Names everything that an installed part depends on."""
        files = {"base": [f"requirements/{self.requirements}.txt"], "program": ["pyproject.toml"]}
        named = files.get(part, ["requirements/llama.txt", "requirements/build.txt"])
        facts = [part, self.requirements, str(self.folder.resolve()), str(sys.version_info[:2])]
        if part == "llama":
            facts += llama_settings()
        data = "\n".join(facts).encode() + b"".join((ROOT / name).read_bytes() for name in named)
        return hashlib.sha256(data).hexdigest()

    def stamp(self, part: str) -> Path:
        return self.folder / f"lifeboat-{part}.stamp"

    def has(self, part: str) -> bool:
        """Tells whether a part is there as its requirement file says now."""
        stamp = self.stamp(part)
        return self.python.exists() and stamp.exists() and stamp.read_text() == self.digest(part)

    def is_complete(self) -> bool:
        return all(self.has(part) for part in ("base", "program", "llama"))


def machine_kind() -> str:
    """Returns "gpu" where the NVIDIA driver answers, else "cpu"."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "cpu"
    found = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False)
    return "gpu" if found.returncode == 0 and "GPU " in found.stdout else "cpu"


def llama_settings() -> tuple[str, ...]:
    """Returns the build settings of llama-cpp-python: CUDA needs the driver and the compiler."""
    return LLAMA_SETTINGS_CUDA if machine_kind() == "gpu" and shutil.which("nvcc") else LLAMA_SETTINGS


def missing_packages(environment: Environment) -> list[str]:
    """Returns the Debian packages without which `install` would fail here."""
    missing = []
    if not environment.is_complete() and find_uv(environment.bootstrap) is None and not _has_venv():
        missing.append("python3-venv")
    if not environment.has("llama") and not (shutil.which("c++") or shutil.which("g++")):
        missing += ["g++", "libc6-dev"]
    return missing


def ensure_packages(names: list[str]) -> None:
    """Installs Debian packages where we are root; otherwise says the one line that does.

    Raises:
        SetupFailed: Something is missing and only an administrator can add it.
    """
    if not names:
        return
    line = f"apt-get install -y --no-install-recommends {' '.join(names)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SetupFailed(f"missing on this machine: {', '.join(names)}\nhint: sudo {line}")
    print(f"+ {line}", flush=True)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "-qq", "update"], check=True, env=quiet)
    subprocess.run([*line.split(), "-qq"], check=True, env=quiet, stdout=subprocess.DEVNULL)


def find_uv(bootstrap: Path) -> Path | None:
    """Returns a uv that runs: from PATH, or the one an earlier run put into `bootstrap`."""
    for candidate in (shutil.which("uv"), bootstrap / "bin" / "uv"):
        if candidate and Path(candidate).exists() and _runs(candidate):
            return Path(candidate)
    return None


def get_uv(bootstrap: Path) -> Path:
    """Returns a uv that runs, and puts one into `bootstrap` if there is none."""
    found = find_uv(bootstrap)
    if found is None:
        _run([sys.executable, "-m", "venv", "--clear", str(bootstrap)])
        pip = [str(bootstrap / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "--require-hashes", "--only-binary=:all:", "-r", str(ROOT / "requirements" / "uv.txt")])
        found = bootstrap / "bin" / "uv"
    return found


def install(environment: Environment) -> bool:
    """Installs everything but llama-cpp-python; returns False when it was all there already."""
    if environment.has("base") and environment.has("program"):
        return False
    uv = get_uv(environment.bootstrap)
    if not environment.has("base"):
        # What was made from another file may hold packages that this one must not have beside it (onnxruntime).
        old = "--clear" if environment.stamp("base").exists() else "--allow-existing"
        _run([uv, "venv", "--quiet", old, "--python", sys.executable, environment.folder])
        wanted = ROOT / "requirements" / f"{environment.requirements}.txt"
        _uv_install(uv, environment, "--require-hashes", "-r", wanted)
        environment.stamp("base").write_text(environment.digest("base"))
    _uv_install(uv, environment, "--no-deps", *_build_pins(), "-e", ROOT)
    environment.stamp("program").write_text(environment.digest("program"))
    return True


def install_llama(environment: Environment, log: Path | None = None) -> None:
    """Installs llama-cpp-python from source: about 6 minutes on 2 cores, seconds from uv's cache.

    Raises:
        SetupFailed: The build failed; the message names the log.
    """
    if environment.has("llama"):
        return
    settings = [word for setting in llama_settings() for word in ("--config-setting", setting)]
    words = ["--require-hashes", "--no-deps", *_build_pins(), *settings, "-r", ROOT / "requirements" / "llama.txt"]
    uv = get_uv(environment.bootstrap)
    if log is None:
        _uv_install(uv, environment, *words)
    else:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            _uv_install(uv, environment, "--verbose", *words, output=output)
    environment.stamp("llama").write_text(environment.digest("llama"))


class LlamaBuild:
    """llama-cpp-python being installed in the background, at low priority, with its progress read from the log."""

    def __init__(self, environment: Environment, log: Path) -> None:
        self.log = log
        program = [sys.executable, __file__, "--only-llama", "--log", str(log)]
        program += ["--folder", str(environment.folder), "--set", environment.requirements]
        program += ["--bootstrap", str(environment.bootstrap)]
        log.unlink(missing_ok=True)
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(
            ["nice", "-n", "10", *program], start_new_session=True, stdin=quiet, stdout=quiet
        )

    def steps(self) -> tuple[int, int]:
        """Returns how many steps of the build are done and how many there are; (0, 0) before it compiles."""
        found = NINJA_STEP.findall(self.log.read_bytes()) if self.log.exists() else []
        return (int(found[-1][0]), int(found[-1][1])) if found else (0, 0)

    def is_running(self) -> bool:
        return self._process.poll() is None

    def failed(self) -> bool:
        return self._process.poll() not in (None, 0)

    def stop(self) -> None:
        """Ends the build with every compiler it started."""
        if self.is_running():
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait()


def _build_pins() -> list[str | Path]:
    return ["--build-constraints", ROOT / "requirements" / "build.txt"]


def _runs(program: str | Path) -> bool:
    """Tells whether a program runs: a version manager's shim is on PATH and may still refuse to."""
    return subprocess.run([program, "--version"], capture_output=True, check=False).returncode == 0


def _has_venv() -> bool:
    return find_spec("venv") is not None and find_spec("ensurepip") is not None


def _uv_install(uv: Path, environment: Environment, *words: str | Path, output: IO[bytes] | None = None) -> None:
    _run([uv, "pip", "install", "--python", environment.python, *words], output=output)


def _run(command: list[str | Path], *, output: IO[bytes] | None = None) -> None:
    """Runs a tool; its output goes to the terminal or the log."""
    words = [str(word) for word in command]
    variables = {"UV_HTTP_TIMEOUT": "180", **os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    # Another active environment must not be taken for the one that is named.
    variables.pop("VIRTUAL_ENV", None)
    done = subprocess.run(words, env=variables, stdout=output, stderr=output, check=False)
    if done.returncode:
        where = f"; see {output.name}" if output else ""
        raise SetupFailed(f"`{' '.join(words)}` ended with {done.returncode}{where}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / ".venv", help="the environment (default: .venv)")
    parser.add_argument("--set", choices=("auto", "cpu", "gpu", "dev"), default="auto", help="which requirement file")
    parser.add_argument("--bootstrap", type=Path, default=Environment.bootstrap, help="where uv goes if it is missing")
    parser.add_argument("--without-llama", action="store_true", help="leave llama-cpp-python out")
    parser.add_argument("--only-llama", action="store_true", help="only llama-cpp-python, into an existing environment")
    parser.add_argument("--log", type=Path, help="write the build output of llama-cpp-python there")
    return parser.parse_args()


def main() -> int:
    arguments = _arguments()
    chosen = machine_kind() if arguments.set == "auto" else arguments.set
    environment = Environment(arguments.folder, chosen, arguments.bootstrap)
    try:
        if not arguments.only_llama:
            ensure_packages(missing_packages(environment))
            install(environment)
        if not arguments.without_llama:
            install_llama(environment, arguments.log)
    except SetupFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main() if sys.version_info >= OLDEST_PYTHON else "error: Python 3.11 or newer is needed")
