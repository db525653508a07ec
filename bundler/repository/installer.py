"""`install.sh` at the top of a repository: the one of the newest program, put in place after it was signed.

Nothing that a box trusts depends on it: a technician compares it with the delivery slip.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bundler.files import FileLayer, open_regular, write_atomic
from bundler.format import paths
from bundler.format.errors import BadBundle
from bundler.format.software import INSTALLER, RUNTIME, programs
from bundler.format.trust.medium import check_file
from bundler.format.trust.verify import TargetFile


def settle(folder: Path, targets: Mapping[str, TargetFile], layer: FileLayer) -> None:
    """Puts the `install.sh` in place that the targets list, from the program that brought it."""
    wanted = targets.get(INSTALLER)
    if wanted is None:
        (folder / INSTALLER).unlink(missing_ok=True)
        return
    if holds(folder, INSTALLER, wanted):
        return
    for version, files in programs(targets).items():
        path = f"{RUNTIME}/{version}/{INSTALLER}"
        if files.get(INSTALLER) == wanted and holds(folder, path, wanted):
            with open_regular(paths.inside(folder, path)) as source:
                write_atomic(folder / INSTALLER, source.read(wanted.length), layer=layer)


def holds(folder: Path, path: str, target: TargetFile) -> bool:
    """Whether a folder has a file as it was signed."""
    try:
        check_file(folder, path, target)
    except BadBundle:
        return False
    return True
