"""The file for supporters: what `doctor` found and what the box is, without secrets, questions, answers or content."""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.host import check, support_sources
from appliance.host.addresses import own_hosts
from appliance.host.doctor import Asked
from appliance.host.finding import Finding
from appliance.host.redaction import Redactor, reason, selftest_lines, verdict_line
from appliance.host.status import read_status
from appliance.store import current, nightly, versions
from appliance.store.layout import StateLayout
from appliance.store.seal import Seal, SiteSecrets
from appliance.store.secrets import Secrets
from bundler.files import DISK, FileLayer, write_atomic
from bundler.format.errors import BadInput, LifeboatError
from bundler.format.record import to_json
from bundler.format.service import Service

_MAX_AGE_DAYS = 45
_VERSIONS_OF_PROGRAMS = "programs.json"
_STATUS = (
    "site", "version", "bundle", "made", "installed", "age_days", "model_tested", "comes_back_alone", "nightly_failed",
    "nightly_age_days", "warnings",
)  # fmt: skip
_VERSION = ("number", "bundle", "made", "installed", "model_tested", "software")


def check_target(file: Path) -> None:
    """Raises BadInput where the file is there already, or its folder is not: told before the examination."""
    if os.path.lexists(file):
        raise BadInput(f"{file} is there already", "name a new file")
    if not file.absolute().parent.is_dir():
        raise BadInput(f"{file.absolute().parent} is no folder", "name a file in a folder that is there")


def write_support_file(file: Path, asked: Asked, findings: Sequence[Finding], layer: FileLayer = DISK) -> list[str]:
    """Writes the archive, readable by this user alone; returns the names of what is in it.

    Raises:
        BadInput: The file is there already.
    """
    layout = StateLayout(asked.root)
    known, members = tuple(known_values(layout)), {}
    for name, collect in _parts(layout, asked, findings).items():
        value = Redactor(known, guess=name != _VERSIONS_OF_PROGRAMS).value(_collected(collect))
        text = value if isinstance(value, str) else json.dumps(value, indent=1, sort_keys=True)
        members[name] = text.encode()
    check_target(file)
    write_atomic(file, packed(members, asked.now), mode=0o600, layer=layer)
    return sorted(members)


def known_values(layout: StateLayout) -> Iterator[str]:
    """Yields every value of this box that must not leave it, as far as its seal opens."""
    yield from own_hosts()[1:]  # not the name, which may be "lifeboat"; it stands in addresses only, which are removed
    seal = Seal(layout.keys)
    with suppress(LifeboatError, OSError):  # what stays closed to this command is in no part of the file
        site = seal.open()
        yield from (site.identity, site.report_secret, site.version_secret)
        yield from (text for pair in Secrets(seal).read().items() for text in pair)
        for number in current.numbers(layout):
            yield from _of_version(layout, site, number)


def _of_version(layout: StateLayout, site: SiteSecrets, number: int) -> Iterator[str]:
    with suppress(LifeboatError, OSError):  # one that somebody changed, or that lacks a volume
        version = versions.read_version(layout, site, number)
        yield from (part for entry in version.egress for part in (entry, *_hosts(entry)))
        yield from (part.strip() for value in version.settings.values() for part in (value, *value.split(",")))
        with versions.open_version(layout, site, version) as bundle:
            yield from _of_service(bundle.index.service)


def _of_service(service: Service) -> Iterator[str]:
    for upstream in service.upstreams:
        yield from (upstream.base_url, *_hosts(upstream.base_url), upstream.key, upstream.key.removeprefix("env:"))
    yield from (service.ladder.banner, service.ladder.message, service.ladder.handoff)
    for route in service.routes:
        yield from (route.output.refusals if route.output is not None else ())
    yield from (contact for line in service.inventory for contact in (line.owner, *line.contacts))


def _hosts(address: str) -> tuple[str, str]:
    """Returns a host with its port, and without."""
    host = address.rpartition("://")[2].partition("/")[0]
    return host, host.rpartition(":")[0] or host


def packed(members: dict[str, bytes], now: datetime) -> bytes:
    """Returns a .tar.gz. Pure."""
    packed_up = io.BytesIO()
    with tarfile.open(fileobj=packed_up, mode="w") as archive:
        for name, data in sorted(members.items()):
            entry = tarfile.TarInfo(f"lifeboat-support/{name}")
            entry.size, entry.mode, entry.mtime = len(data), 0o600, int(now.timestamp())
            archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(packed_up.getvalue(), mtime=int(now.timestamp()))


def _parts(layout: StateLayout, asked: Asked, findings: Sequence[Finding]) -> dict[str, Callable[[], Any]]:
    return {
        "doctor.json": lambda: [asdict(finding) for finding in findings],
        "status.json": lambda: _status(asked),
        "check.json": lambda: _check(asked),
        "versions.json": lambda: list(_versions(layout)),
        "nightly.json": lambda: _nightly(layout),
        "files.json": lambda: list(_files(layout.root)),
        "machine.json": support_sources.machine,
        _VERSIONS_OF_PROGRAMS: support_sources.programs,
        "service.json": support_sources.service,
        "journal.txt": lambda: "\n".join(support_sources.journal()) + "\n",
        "metrics.txt": lambda: support_sources.metrics(layout, asked.now),
    }


def _collected(collect: Callable[[], Any]) -> Any:
    """What could not be had is a line of the file: a box that is half broken is what it is for."""
    try:
        return collect()
    except LifeboatError as error:
        return {"not there": reason(error.fact)}
    except (OSError, ValueError) as error:
        return {"not there": type(error).__name__}


def _status(asked: Asked) -> dict[str, Any]:
    found = read_status(asked.root, asked.now)
    told = {name: value for name, value in asdict(found).items() if name in _STATUS}
    return {**told, "selftest": selftest_lines(found.selftest), "given_up": len(found.given_up)}


def _check(asked: Asked) -> dict[str, Any]:
    verdict = check.look(asked.root, asked.now, _MAX_AGE_DAYS)
    return {"state": verdict.word, "reasons": [verdict_line(line) for line in verdict.reasons]}


def _versions(layout: StateLayout) -> Iterator[dict[str, Any]]:
    secrets = Seal(layout.keys).open()
    for number in sorted(current.numbers(layout)):
        try:
            record = to_json(versions.read_version(layout, secrets, number))
            why, proof = current.given_up(layout, number), current.proof_of(layout, number)
        except LifeboatError as error:
            yield {"number": number, "not read": reason(error.fact)}
            continue
        told = {name: record[name] for name in _VERSION if name in record}
        told |= {"selftest": selftest_lines(record["selftest"]), "egress": len(record["egress"])}
        told |= {} if why is None else {"given_up": {"what": why.what, "when": why.when, "why": _why(why)}}
        yield told | ({} if proof is None else {"proof": selftest_lines(proof.lines)})


def _why(why: current.GivenUp) -> str:
    """What a person typed as a reason stays here."""
    return "by hand" if why.what == "taken back" else reason(why.reason)


def _nightly(layout: StateLayout) -> dict[str, Any]:
    night = nightly.read(layout)
    if night is None:
        return {"not there": "no night has passed"}
    return {
        "version": night.version,
        "when": night.when,
        "passed": night.passed,
        "lines": selftest_lines(night.lines),
    }


def _files(root: Path) -> Iterator[dict[str, Any]]:
    for path in _walk(root):
        found = path.lstat()
        yield {
            "path": str(path.relative_to(root)),
            "bytes": found.st_size,
            "changed": datetime.fromtimestamp(found.st_mtime, UTC).isoformat(timespec="seconds"),
            "mode": stat.filemode(found.st_mode),
            "owner": found.st_uid,
        }


def _walk(root: Path) -> Iterable[Path]:
    return sorted(path for path in root.rglob("*") if path.is_symlink() or path.exists())
