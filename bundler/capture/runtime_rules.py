"""Whether a folder of wheels is a program: one lifeboat-ai, its installer, all that it needs, and one kind of machine.

Runs in a confined child: names, METADATA and requirements are foreign text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import IO, Any

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from bundler.capture.wheel_rules import WheelFacts, check_wheel, normalised
from bundler.format.errors import BadInput, BadInputs
from bundler.format.software import is_version

PROGRAM, TOOL = "lifeboat-ai", "pip"
# The GPU's distribution carries the same modules under another name.
_STANDS_FOR = {"onnxruntime": "onnxruntime-gpu"}
_CPYTHON = re.compile(r"cp(3)([0-9]{1,2})")
_LINUX = re.compile(r"(?:many)?linux(?:_[0-9]+_[0-9]+|1|2010|2014)?_(x86_64|aarch64)")


@dataclass(frozen=True)
class RuntimeFacts:
    """What a wheelhouse is for.

    Attributes:
        version: Of the program.
        python: "3.11", or "" where any will do.
        machine: "x86_64", or "" where any will do.
        program: Name of the wheel of the program itself.
        tool: Name of the wheel that installs the others.
    """

    version: str
    python: str
    machine: str
    program: str
    tool: str


def check(request: Mapping[str, Any], inputs: Mapping[str, IO[bytes]], _: Mapping[str, IO[bytes]]) -> dict[str, Any]:
    """Checks the wheels `inputs`, by file name; `request["subject"]` names the folder.

    Raises:
        BadInputs: All that is wrong with them.
    """
    issues: list[str] = []
    found: dict[str, WheelFacts] = {}
    tags: dict[str, frozenset[Tag]] = {}
    for name, file in inputs.items():
        try:
            found[name], tags[name] = _one(name, file)
        except BadInput as error:
            issues.append(f"{name}: {error.fact}")
    if issues:
        raise BadInputs(request["subject"], tuple(issues))
    python, machine = _only(issues, "Python", _pythons(tags)), _only(issues, "machine", _machines(tags, issues))
    by_name = _by_name(found, issues)
    program, tool = by_name.get(PROGRAM), by_name.get(TOOL)
    if program is None or tool is None:
        issues += [f"no wheel of {name}" for name in (PROGRAM, TOOL) if name not in by_name]
    elif not is_version(found[program].version):
        issues.append(f"{program}: boxes cannot order the version {found[program].version!r}")
    else:
        issues += _open_ends({facts.name: facts for facts in found.values()}, _environment(python, machine))
    if issues or program is None or tool is None:
        raise BadInputs(request["subject"], tuple(issues))
    return asdict(RuntimeFacts(found[program].version, python, machine, program, tool))


def _one(name: str, file: IO[bytes]) -> tuple[WheelFacts, frozenset[Tag]]:
    try:
        dist, version, _, tags = parse_wheel_filename(name)
    except InvalidWheelFilename as error:
        raise BadInput(f"no name of a wheel: {error}") from error
    facts = check_wheel(file)
    if (facts.name, facts.version) != (str(dist), str(version)):
        raise BadInput(f"it is {facts.name} {facts.version}")
    return facts, tags


def _by_name(found: Mapping[str, WheelFacts], issues: list[str]) -> dict[str, str]:
    names: dict[str, str] = {}
    for file, facts in found.items():
        if facts.name in names:
            issues.append(f"{names[facts.name]} and {file} are of one distribution")
        names[facts.name] = file
    return names


def _pythons(tags: Mapping[str, frozenset[Tag]]) -> set[str]:
    """Returns the Python versions that wheels are bound to; abi3 is good for all later ones."""
    bound = set()
    for each in tags.values():
        if any(tag.interpreter.startswith("py3") or tag.abi == "abi3" for tag in each):
            continue
        bound |= {".".join(match.groups()) for tag in each if (match := _CPYTHON.fullmatch(tag.interpreter))}
    return bound


def _machines(tags: Mapping[str, frozenset[Tag]], issues: list[str]) -> set[str]:
    found = set()
    for name, each in tags.items():
        platforms = {tag.platform for tag in each}
        if "any" in platforms:
            continue
        linux = {match.group(1) for platform in platforms if (match := _LINUX.fullmatch(platform))}
        if not linux:
            issues.append(f"{name} is for {', '.join(sorted(platforms))}; boxes run Linux on x86_64 or aarch64")
        found |= linux
    return found


def _only(issues: list[str], what: str, found: set[str]) -> str:
    if len(found) > 1:
        issues.append(f"wheels for more than one {what}: {', '.join(sorted(found))}")
    return min(found, default="")


def _environment(python: str, machine: str) -> dict[str, str]:
    """Returns what markers are read against: the box, not this builder."""
    own = {key: str(value) for key, value in default_environment().items()}
    if python and python != own["python_version"]:
        own |= {"python_version": python, "python_full_version": f"{python}.99"}
    return own | {
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "os_name": "posix",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": machine or own["platform_machine"],
    }


def _open_ends(found: Mapping[str, WheelFacts], environment: Mapping[str, str]) -> list[str]:
    """Returns what is required and not there, and what is there and not required."""
    device = "gpu" if "onnxruntime-gpu" in found else "cpu"
    waiting, seen = [(PROGRAM, "appliance"), (PROGRAM, device)], set()
    issues: list[str] = []
    while waiting:
        if (place := waiting.pop()) in seen:
            continue
        seen.add(place)
        for text in found[place[0]].requires:
            wanted = _wanted(text, place, environment, issues)
            if wanted is None:
                continue
            name = _standing_for(wanted.name, found)
            if name not in found:
                issues.append(f"{place[0]} needs {wanted}, which is not here")
            elif not wanted.specifier.contains(found[name].version, prereleases=True):
                issues.append(f"{place[0]} needs {wanted}, here is {found[name].version}")
            else:
                waiting += [(name, ""), *((name, extra) for extra in wanted.extras)]
    spare = found.keys() - {name for name, _ in seen} - {TOOL}
    return [*dict.fromkeys(issues), *(f"nothing needs {name}" for name in sorted(spare))]


def _wanted(text: str, place: tuple[str, str], environment: Mapping[str, str], issues: list[str]) -> Requirement | None:
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        issues.append(f"{place[0]} has a requirement that cannot be read: {error}")
        return None
    marker = requirement.marker
    holds = marker is None or marker.evaluate({**environment, "extra": place[1]})
    return requirement if holds else None


def _standing_for(name: str, found: Iterable[str]) -> str:
    plain = normalised(name)
    return _STANDS_FOR.get(plain, plain) if plain not in found else plain
