"""Which NVIDIA driver a build for CUDA needs at least. Pure.

Source of the table: NVIDIA, "CUDA Compatibility", chapter "Minor Version Compatibility", table 1: a program built with
any toolkit of a major version runs with that driver or a newer one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

LEAST_DRIVER: Mapping[int, str] = {11: "450", 12: "525", 13: "580"}
_LIBRARY = re.compile(rb"libcudart\.so\.(\d{2})")


def major_of(version: str) -> int | None:
    """Returns the major version of a CUDA version such as "12.8", None for a text that is none."""
    head = version.strip().partition(".")[0]
    return int(head) if head.isdecimal() else None


def runtime_named_in(library: bytes) -> int | None:
    """Returns the major version of the CUDA runtime that a shared library asks for, None where it names none."""
    found = _LIBRARY.search(library)
    return int(found[1]) if found else None


def too_old(driver: str, cuda_major: int) -> str | None:
    """Returns the least driver for a CUDA version where `driver` is older than it, else None.

    A version that the table does not have yet is not judged: the session itself shows whether it runs.
    """
    least = LEAST_DRIVER.get(cuda_major)
    return least if least is not None and _numbers(driver) < _numbers(least) else None


def problems(driver: str, builds: Mapping[str, int]) -> Iterable[str]:
    """Yields a sentence for each program that needs a newer driver; `builds` gives its CUDA major version."""
    for name, major in builds.items():
        least = too_old(driver, major)
        if least is not None:
            yield f"{name} is built for CUDA {major}, which needs driver {least} at least"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
