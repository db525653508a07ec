"""Checks one wheel that will be installed on boxes: every member is in its RECORD, and none leads outside.

Runs in a confined child. Layout: https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

from __future__ import annotations

import base64
import csv
import email.parser
import email.policy
import hashlib
import io
import re
import stat
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO

from bundler.format.errors import BadInput
from bundler.format.limits import GIB, MIB

MEMBERS, MEMBER_BYTES, TEXT_BYTES = 100_000, 4 * GIB, 16 * MIB
_RATIO = 500  # zeros deflate to about a thousandth; tables of characters come near a hundredth
_ENCRYPTED = 0x1  # APPNOTE.TXT 4.4.4
_UNRECORDED = ("RECORD", "RECORD.jws", "RECORD.p7s")


@dataclass(frozen=True)
class WheelFacts:
    """What a wheel says of itself; names are normalised (PEP 503), `requires` as in METADATA."""

    name: str
    version: str
    requires: tuple[str, ...]


def check_wheel(file: IO[bytes]) -> WheelFacts:
    """Reads a whole wheel.

    Raises:
        BadInput: It is no wheel, a bomb, leads outside its folder, or differs from its RECORD.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = _members(archive)
            info = _info_folder(members)
            _check_record(archive, members, info)
            metadata = _headers(_text(archive, members, f"{info}/METADATA"))
            wheel = _headers(_text(archive, members, f"{info}/WHEEL"))
    except (zipfile.BadZipFile, zlib.error, csv.Error, EOFError, NotImplementedError) as error:
        raise BadInput(f"not a readable archive: {error}") from error
    if not wheel.get("wheel-version", [""])[0].startswith("1."):
        raise BadInput(f"wheel version {wheel.get('wheel-version')}, expected 1.x")
    name, version = metadata.get("name", [""])[0], metadata.get("version", [""])[0]
    return WheelFacts(normalised(name), version, tuple(metadata.get("requires-dist", ())))


def normalised(name: str) -> str:
    """Returns a distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    entries = archive.infolist()
    members = {entry.filename: entry for entry in entries}
    if len(entries) > MEMBERS or len(members) != len(entries):
        raise BadInput(f"{len(entries)} members of {len(members)} names, at most {MEMBERS}")
    for name, entry in members.items():
        _check_member(name, entry)
    return {name: entry for name, entry in members.items() if not entry.is_dir()}


def _check_member(name: str, entry: zipfile.ZipInfo) -> None:
    # A backslash or a drive is a separator to other systems; zipfile cuts a name at NUL and keeps the whole beside it.
    parts = name.rstrip("/").split("/")
    if name != entry.orig_filename or "\\" in name or ":" in parts[0] or not name.isprintable():
        raise BadInput(f"a member is named {name[:80]!r}")
    if any(part in ("", ".", "..") for part in parts):
        raise BadInput(f"the member {name[:80]!r} leads outside the wheel")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise BadInput(f"the member {name[:80]!r} is a link or a device")
    if entry.flag_bits & _ENCRYPTED or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadInput(f"{name} is encrypted or compressed by a method that wheels do not use")
    if entry.file_size > MEMBER_BYTES or entry.file_size > _RATIO * entry.compress_size + MIB:
        raise BadInput(f"{name} would grow from {entry.compress_size} to {entry.file_size} bytes")


def _info_folder(members: Mapping[str, zipfile.ZipInfo]) -> str:
    folders = {name.split("/")[0] for name in members if name.split("/")[0].endswith(".dist-info")}
    if len(folders) != 1:
        raise BadInput(f"{len(folders)} dist-info folders, expected one")
    return folders.pop()


def _check_record(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], info: str) -> None:
    lines = list(csv.reader(io.StringIO(_text(archive, members, f"{info}/RECORD"))))
    recorded = {line[0]: line[1] for line in lines if len(line) == 3}
    if len(recorded) != len(lines):
        raise BadInput("RECORD has lines that name no file, or one twice")
    free = {f"{info}/{name}" for name in _UNRECORDED}
    if strange := sorted((recorded.keys() - free) ^ (members.keys() - free)):
        raise BadInput(f"RECORD and members differ: {', '.join(strange[:5])}")
    for name, entry in members.items():
        if name not in free and (found := _digest(archive, entry)) != recorded[name]:
            raise BadInput(f"{name} differs from RECORD: {recorded[name][:60]}, found {found}")


def _digest(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> str:
    digest = hashlib.sha256()
    with archive.open(entry) as file:
        while block := file.read(MIB):
            digest.update(block)
    return f"sha256={base64.urlsafe_b64encode(digest.digest()).decode().rstrip('=')}"


def _text(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], name: str) -> str:
    entry = members.get(name)
    if entry is None or entry.file_size > TEXT_BYTES:
        raise BadInput(f"{name} is missing or longer than {TEXT_BYTES} bytes")
    try:
        return archive.read(entry).decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{name} is not UTF-8") from error


def _headers(text: str) -> dict[str, list[str]]:
    message = email.parser.Parser(policy=email.policy.compat32).parsestr(text, headersonly=True)
    found: dict[str, list[str]] = {}
    for name, value in message.items():
        found.setdefault(name.lower(), []).append(str(value))
    return found
