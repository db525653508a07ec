"""Versions of a box that go wrong on purpose, made on the box out of the one that is installed.

Their indexes are encrypted as the builder does it and their records are MACed under the box's own secret: what serves
takes them for installed ones. So every way to go wrong can be tried without a build.
"""

from __future__ import annotations

import hashlib
import os
import secrets as random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from appliance.store import versions
from appliance.store.layout import StateLayout
from appliance.store.seal import Seal
from bundler.files import DISK
from bundler.format import age
from bundler.format.age.stream import sealed_size
from bundler.format.bundle import Bundle
from bundler.format.index import encode_index
from bundler.format.manifest import Descriptor, FileDigest, bundle_id, encode_descriptor
from bundler.format.padding import pad_document
from bundler.format.service import SelftestSpec, Service

_PIECE_BYTES, _TAG_BYTES = 65_536, 16  # C2SP/age: what STREAM encrypts at once, and what that adds

Change = Callable[[Service], Service]


def slow_search(service: Service) -> Service:
    """No machine embeds a question within a millisecond."""
    return replace(service, selftest=replace(_selftest(service), search_ms=1))


def slow_model(service: Service) -> Service:
    """Nor does one make 32 tokens in that time."""
    return replace(with_other_model(service), selftest=replace(_selftest(service), model_ms=1))


def large(service: Service) -> Service:
    """The demo's embedding model alone has more than a megabyte."""
    return replace(service, selftest=replace(_selftest(service), memory_mb=1))


def wrong_answers(service: Service) -> Service:
    """Its FAQ is not there any more, and its self-test asks for it."""
    ladder = service.ladder
    gone = {spec.name for spec in service.faqs}
    rungs = tuple(rung for rung in ladder.rungs if rung.name not in gone)
    names = {rung.name for rung in rungs}
    chat, ask = (tuple(name for name in order if name in names) for order in (ladder.chat, ladder.ask))
    return replace(service, faqs=(), ladder=replace(ladder, rungs=rungs, chat=chat, ask=ask))


def with_other_model(service: Service) -> Service:
    """The same weights with another limit: no engine is shared, and both are in memory while one proves itself."""
    return replace(service, models=tuple(replace(m, max_output_tokens=m.max_output_tokens - 1) for m in service.models))


def same(service: Service) -> Service:
    return service


def _selftest(service: Service) -> SelftestSpec:
    assert service.selftest is not None
    return service.selftest


@dataclass(frozen=True)
class Maker:
    """Makes versions on one box; its bundle must be of one volume.

    Attributes:
        layout: The box's state.
    """

    layout: StateLayout

    def version(self, change: Change = same, *, software: str = "", damaged: str = "") -> int:
        """Writes a version like the serving one, and returns its number.

        Args:
            change: Of the profile.
            software: The program that serves it.
            damaged: The path of an asset, a byte of which is flipped on the disk; an index of its own is needed then.
        """
        secrets = Seal(self.layout.keys).open()
        serving = versions.read_current(self.layout, secrets)
        number = versions.next_number(self.layout)
        record = replace(serving, number=number, software=software)
        if change is not same or damaged:
            with versions.open_version(self.layout, secrets, serving) as bundle:
                record = self._bundled(record, self._bundle(bundle, change, damaged))
        keys = (self.layout.version(serving.number) / "keys.age").read_bytes()
        versions.write_version(self.layout, secrets, record, keys, DISK)
        return number

    def _bundle(self, bundle: Bundle, change: Change, damaged: str) -> Descriptor:
        before = bundle.descriptor
        name = bundle_id(before.epoch, before.sequence + 1, random.token_hex(4))
        folder = self.layout.repository / "bundles" / name
        (folder / "vol").mkdir(parents=True)
        (volume,) = before.volumes
        placed = folder / "vol" / Path(volume.path).name
        os.link(self.layout.repository / volume.path, placed)
        if damaged:
            flip(placed, place_of(bundle, damaged))
        index = replace(bundle.index, bundle=name, service=change(bundle.index.service))
        sealed = age.encrypt(pad_document(encode_index(index)), [age.parse_recipient(before.recipient)])
        (folder / "index.age").write_bytes(sealed)
        digest = FileDigest(f"bundles/{name}/index.age", len(sealed), hashlib.sha256(sealed).hexdigest())
        there = replace(volume, path=str(placed.relative_to(self.layout.repository)))
        return replace(before, bundle=name, sequence=before.sequence + 1, index=digest, volumes=(there,))

    def _bundled(self, record: versions.Version, descriptor: Descriptor) -> versions.Version:
        data, path = encode_descriptor(descriptor), f"bundles/{descriptor.bundle}/bundle.json"
        (self.layout.repository / path).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        return replace(record, bundle=descriptor.bundle, descriptor_path=path, descriptor_sha256=digest)


def place_of(bundle: Bundle, asset: str) -> int:
    """Returns where the first chunk of an asset stands in the file of its volume, in bytes."""
    chunk = bundle.index.asset(asset).chunks[0]
    volume = bundle.descriptor.volumes[chunk.volume]
    with (bundle.volumes.root / volume.path).open("rb") as file:
        identity = age.parse_identity(bundle.volumes.identities[volume.recipient])
        plain_bytes = age.Reader(file, [identity], size=volume.length_bytes).plaintext_size
    head_bytes = volume.length_bytes - sealed_size(plain_bytes)
    return head_bytes + chunk.offset + _TAG_BYTES * (chunk.offset // _PIECE_BYTES)


def flip(path: Path, place: int) -> None:
    """Flips a bit of a file; other names of it keep the old content."""
    copy = path.with_suffix(".copy")
    shutil.copyfile(path, copy)
    with copy.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))
    copy.replace(path)
