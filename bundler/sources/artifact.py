"""Finds a file in an OCI artifact: as a layer of its own, or within a layer that is a tar archive.

Layouts: ModelPack (CNCF model-spec, docs/spec.md; `application/vnd.cncf.model.*`, before `vnd.cnai.*`), whose layers
are `.raw` or `.tar` with a path in an annotation; ORAS, which names files by their title; KitOps, archives alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.confine import Confinement, run_confined
from bundler.format import paths
from bundler.format.errors import BadBundle, BadInput
from bundler.format.limits import GIB
from bundler.format.oci import Descriptor, Manifest
from bundler.sources.blobs import Blobs
from bundler.sources.file import hashed
from bundler.sources.source import Fetched

MEMBER_BYTES_MAX = 64 * GIB
_NAMES = ("org.cncf.model.filepath", "org.cnai.model.filepath", "org.opencontainers.image.title")
_ARCHIVE = re.compile(r"[.+]tar([.+](gzip|gz|zstd))?$")
# Inflating and hashing 64 GiB stays far below this on any builder.
_CONFINEMENT = Confinement(cpu_s=3_600, wall_s=7_200, output_bytes=MEMBER_BYTES_MAX)
_NAMED = 12


@dataclass(frozen=True)
class Holder:
    """A layer that holds the wanted file, or may hold it; `packing` is "" where it is the file itself."""

    layer: Descriptor
    packing: str


def layers_of(member: str, manifest: Manifest, what: str) -> tuple[Holder, ...]:
    """Returns where a file is to be looked for: the layer that is it, or the archives that may hold it. Pure.

    Raises:
        BadInput: Nothing of the artifact can be it, or two layers claim to be, or the name is not allowed.
    """
    try:
        paths.check(member)
    except BadBundle as error:
        raise BadInput(f"{what}: the member's {error.fact}") from error
    named = [(layer, _name(layer), _packing(layer)) for layer in manifest.layers]
    whole = {layer.digest: layer for layer, name, packing in named if name == member and not packing}
    if len(whole) > 1:
        raise BadInput(f"{what}: {len(whole)} layers of the artifact have this name")
    if whole:
        return tuple(Holder(layer, "") for layer in whole.values())
    archives = [(layer, packing) for layer, name, packing in named if packing and _may_hold(name, member)]
    if not archives:
        there = ", ".join(sorted({name for _, name, _ in named if name})[:_NAMED]) or "no named file"
        raise BadInput(f"{what}: the artifact has no such file", f"it has {there}")
    return tuple(Holder(layer, packing) for layer, packing in archives)


def extract(source: str, member: str, holders: Sequence[Holder], blobs: Blobs, work: Path) -> Fetched:
    """Returns the file, whose layers are in the cache.

    Raises:
        BadInput: An archive is malformed, unsafe or a bomb, or the file is in none of them.
    """
    target = work / "registry" / hashlib.sha256(source.encode()).hexdigest()[:16] / Path(member).name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    if not holders[0].packing:
        layer = holders[0].layer
        target.symlink_to(blobs.path(layer.digest).absolute())  # messages name a file by its name
        return Fetched(target, source, layer.length_bytes, layer.hex, None)
    seen: list[str] = []
    for holder in holders:
        found = run_confined(
            "bundler.sources.tar_layer:extract",
            {"member": member, "packing": holder.packing, "limit_bytes": MEMBER_BYTES_MAX},
            inputs={"layer": blobs.path(holder.layer.digest)},
            outputs={"member": target},
            confinement=_CONFINEMENT,
        )
        if found is True:
            return hashed(Fetched(target, source, target.stat().st_size, "", None))
        seen += [name for name in found if isinstance(name, str)] if isinstance(found, list) else []
    target.unlink(missing_ok=True)
    raise BadInput(f"{source}: no archive of the artifact holds it", f"they hold {', '.join(sorted(seen)[:_NAMED])}")


def _name(layer: Descriptor) -> str:
    found = next((layer.annotations[key] for key in _NAMES if layer.annotations.get(key)), "")
    return found.removeprefix("./").rstrip("/")


def _packing(layer: Descriptor) -> str:
    """Returns "tar", "tar+gzip" or "tar+zstd", or "" for a layer that is a file."""
    match = _ARCHIVE.search(layer.media_type)
    if match is None:
        return ""
    return "tar" if match[2] is None else "tar+zstd" if match[2] == "zstd" else "tar+gzip"


def _may_hold(name: str, member: str) -> bool:
    return not name or name == member or member.startswith(f"{name}/") or member.endswith(f"/{name}") or "/" not in name
