"""Reads one member of a wheel; runs in the confined child of `wheel`.

Layout: https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

from __future__ import annotations

import base64
import csv
import email.parser
import email.policy
import hashlib
import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from email.message import EmailMessage
from typing import IO, Any, cast

from bundler.format.errors import BadInput
from bundler.format.limits import MIB

MEMBERS = 100_000
TEXT_BYTES = 16 * MIB  # of METADATA and RECORD
LICENCE_BYTES, LICENCES_BYTES = MIB, 8 * MIB  # of one text, and of all of a wheel
_LICENCE_FILE = re.compile(
    r"[^/]+\.dist-info/(licenses/)?(.+/)?(LICEN[CS]E|COPYING|NOTICE|AUTHORS)[^/]*", re.IGNORECASE
)
RATIO = 200  # deflate reaches about 1000 on zeros; weights stay near 1
_LICENCE_CHARS = 100
_ENCRYPTED = 0x1  # APPNOTE.TXT 4.4.4


def extract(
    request: Mapping[str, Any], inputs: Mapping[str, IO[bytes]], outputs: Mapping[str, IO[bytes]]
) -> str | None:
    """Copies `request["member"]` of the input `wheel` to the output `member`; returns the licence in METADATA.

    The texts of its licences (PEP 639: in `licenses/`, or on top of dist-info) go to the output `licence`.

    Raises:
        BadInput: Not a wheel, of another name or version, a bomb, or the member is missing or differs from RECORD.
    """
    wheel = f"{request['dist']} {request['version']}"
    try:
        with zipfile.ZipFile(inputs["wheel"]) as archive:
            members = _members(archive, wheel)
            metadata = _metadata(archive, members, request)
            entry = _entry(members, request["member"], wheel)
            _check_size(entry, request["limit_bytes"])
            digest = _copy(archive, entry, outputs["member"])
            _check_record(archive, members, entry.filename, digest)
            _copy_licences(archive, members, outputs["licence"], wheel)
    except (zipfile.BadZipFile, zlib.error, csv.Error, UnicodeDecodeError, EOFError, NotImplementedError) as error:
        raise BadInput(f"the wheel of {wheel} is not a readable archive: {error}") from error
    return _licence(metadata)


def _members(archive: zipfile.ZipFile, wheel: str) -> dict[str, zipfile.ZipInfo]:
    entries = archive.infolist()
    members = {entry.filename: entry for entry in entries}
    if len(entries) > MEMBERS or len(members) != len(entries):
        raise BadInput(f"the wheel of {wheel} has {len(entries)} members of {len(members)} names, at most {MEMBERS}")
    # How much a member may grow is measured by its compressed size, which stands in the archive's own table.
    if any(entry.header_offset + entry.compress_size > archive.start_dir for entry in entries):
        raise BadInput(f"the wheel of {wheel} declares members that are longer than itself")
    return members


def _entry(members: Mapping[str, zipfile.ZipInfo], name: str, wheel: str) -> zipfile.ZipInfo:
    if name in members:
        return members[name]
    folder, last = name.rpartition("/")[::2]
    near = [found for found in members if found.rpartition("/")[2] == last or found.startswith(f"{folder}/")]
    raise BadInput(
        f"the wheel of {wheel} has no member {name}", f"it has {', '.join(sorted(near)[:8])}" if near else ""
    )


def _check_size(entry: zipfile.ZipInfo, limit_bytes: int) -> None:
    if entry.flag_bits & _ENCRYPTED or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BadInput(f"{entry.filename} is encrypted or compressed by a method that wheels do not use")
    if entry.file_size > limit_bytes:
        raise BadInput(f"{entry.filename} has {entry.file_size} bytes, at most {limit_bytes} are read")
    if entry.file_size > RATIO * entry.compress_size + MIB:
        raise BadInput(f"{entry.filename} would grow from {entry.compress_size} to {entry.file_size} bytes")


def _copy(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: IO[bytes]) -> str:
    digest = hashlib.sha256()
    for block in _blocks(archive, entry):
        digest.update(block)
        target.write(block)
    return _base64(digest.digest())


def _blocks(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yields the member; zipfile stops at the declared size and checks the CRC at the end."""
    length = 0
    with archive.open(entry) as file:
        while block := file.read(MIB):
            length += len(block)
            yield block
    if length != entry.file_size:
        raise BadInput(f"{entry.filename} has {length} bytes, the archive declares {entry.file_size}")


def _copy_licences(
    archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], target: IO[bytes], wheel: str
) -> None:
    """Writes every text below a line `--- NAME`; `models.licence_text` takes them apart by it."""
    found = [members[name] for name in sorted(members) if _LICENCE_FILE.fullmatch(name)]
    for entry in found:
        _check_size(entry, LICENCE_BYTES)
    if (together := sum(entry.file_size for entry in found)) > LICENCES_BYTES:
        raise BadInput(
            f"the licence texts of the wheel of {wheel} have {together} bytes, more than {LICENCES_BYTES} together",
            "unpack the wheel yourself, and name the member as file:PATH with its licence_file",
        )
    last = b"\n"
    for entry in found:
        target.write(b"" if last == b"\n" else b"\n")
        target.write(f"--- {entry.filename}\n".encode())
        last = b"\n"
        for block in _blocks(archive, entry):
            target.write(block)
            last = block[-1:]


def _text(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> str:
    _check_size(entry, TEXT_BYTES)
    data = b"".join(_blocks(archive, entry))
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{entry.filename} is not UTF-8") from error


def _dist_info(members: Mapping[str, zipfile.ZipInfo], name: str) -> zipfile.ZipInfo:
    found = [entry for path, entry in members.items() if re.fullmatch(rf"[^/]+\.dist-info/{name}", path)]
    if len(found) != 1:
        raise BadInput(f"the wheel has {len(found)} dist-info/{name}, expected one")
    return found[0]


def _metadata(
    archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], request: Mapping[str, Any]
) -> EmailMessage:
    text = _text(archive, _dist_info(members, "METADATA"))
    message = cast("EmailMessage", email.parser.Parser(policy=email.policy.compat32).parsestr(text, headersonly=True))
    name, version = (str(message.get(key, "without a name"))[:100] for key in ("Name", "Version"))
    if _same(name) != _same(request["dist"]) or version.lower() != request["version"].lower():
        raise BadInput(f"the wheel is {name} {version}, expected {request['dist']} {request['version']}")
    return message


def _same(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


def _check_record(archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], member: str, digest: str) -> None:
    lines = csv.reader(io.StringIO(_text(archive, _dist_info(members, "RECORD"))))
    recorded = {line[0]: line[1] for line in lines if len(line) == 3}
    if recorded.get(member) != f"sha256={digest}":
        raise BadInput(f"{member} differs from the wheel's RECORD: {recorded.get(member)}, found sha256={digest}")


def _base64(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _licence(metadata: EmailMessage) -> str | None:
    """Returns the licence expression, short licence field or classifier (PEP 639), or None; it shows as what it is."""
    for name in ("License-Expression", "License"):
        value = str(metadata.get(name, "")).strip()
        if value and value.isprintable() and len(value) <= _LICENCE_CHARS:
            return value
    classifiers = [str(value) for value in metadata.get_all("Classifier", []) if str(value).startswith("License :: ")]
    found = classifiers[0].rpartition(" :: ")[2][:_LICENCE_CHARS].strip() if classifiers else ""
    return found if found.isprintable() and found else None
