"""The software in a repository: which signed files are a program, and which program is newer (SPEC 1.7). Pure.

A program's version stands in the signed path, so nothing has to be opened to compare two of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from bundler.format.errors import BadBundle

RUNTIME, INSTALLER, WHEEL = "runtime", "install.sh", ".whl"
# The normal form of PEP 440 without epochs and local labels: what two people write alike sorts alike.
_NUMBER = r"(?:0|[1-9][0-9]{0,8})"
_VERSION = re.compile(
    rf"(?P<release>{_NUMBER}(?:\.{_NUMBER}){{0,4}})(?:(?P<stage>a|b|rc)(?P<pre>{_NUMBER}))?"
    rf"(?:\.post(?P<post>{_NUMBER}))?(?:\.dev(?P<dev>{_NUMBER}))?"
)
F = TypeVar("F")


def is_version(text: str) -> bool:
    """Whether a text is a version that this format can order."""
    return _VERSION.fullmatch(text) is not None


def version_order(text: str) -> tuple[object, ...]:
    """Returns what versions are compared by (PEP 440: 1.dev1 < 1a1 < 1rc1 < 1 < 1.post1 < 1.1).

    Raises:
        BadBundle: It is no version.
    """
    found = _VERSION.fullmatch(text)
    if found is None:
        raise BadBundle(f"{text[:80]!r} is no version of a program")
    release = [int(part) for part in found["release"].split(".")]
    while release and release[-1] == 0:
        release.pop()
    bare = found["pre"] is None and found["post"] is None
    stage = (found["stage"], int(found["pre"])) if found["pre"] else ("", 0) if bare and found["dev"] else ("z", 0)
    post = int(found["post"]) if found["post"] else -1
    dev = int(found["dev"]) if found["dev"] else 10**9
    return (tuple(release), stage, post, dev)


def programs(files: Mapping[str, F]) -> dict[str, dict[str, F]]:
    """Returns the files of each program by its version, oldest first; names are those inside its folder.

    Args:
        files: Signed files by their path in the repository.

    Raises:
        BadBundle: A file under `runtime` is not `runtime/VERSION/NAME`.
    """
    found: dict[str, dict[str, F]] = {}
    for path, file in files.items():
        parts = path.split("/")
        if parts[0] != RUNTIME:
            continue
        if len(parts) != 3 or not is_version(parts[1]):
            raise BadBundle(f"{path} is no file of a program")
        found.setdefault(parts[1], {})[parts[2]] = file
    return {version: found[version] for version in in_order(found)}


def in_order(versions: Iterable[str]) -> list[str]:
    """Returns versions, oldest first."""
    return sorted(versions, key=version_order)


def wheels(files: Mapping[str, F]) -> dict[str, F]:
    """Returns the wheels among the files of one program."""
    return {name: file for name, file in files.items() if name.endswith(WHEEL)}


def software_for_box(files: Mapping[str, F]) -> list[str]:
    """Returns the paths of the software that a box needs: the newest program, and `install.sh`."""
    found = programs(files)
    newest = [f"{RUNTIME}/{version}/{name}" for version in list(found)[-1:] for name in found[version]]
    return [*newest, *([INSTALLER] if INSTALLER in files else [])]
