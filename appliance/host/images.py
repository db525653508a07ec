"""Hands the images of the serving version to podman or docker: loaded, never started.

What goes wrong is written down and told; it never keeps the box from serving.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from appliance.host.container_engine import DOCKER, Engine, find_engine
from appliance.host.engine_images import Coming, coming, moving, removed
from appliance.store import gc, image_record, versions
from appliance.store.image_record import ImageRecord, ImageTold
from appliance.store.image_stream import Picked, pick, write_archive
from appliance.store.layout import StateLayout
from appliance.store.owner import as_root
from appliance.store.seal import Seal, SiteSecrets
from bundler.files import exclusive, make_folder, staged, write_atomic
from bundler.format.bundle import Bundle
from bundler.format.errors import BadBundle, BadInput, Busy, LifeboatError, PartMissing, SystemFailed
from bundler.format.image import ImageSpec
from bundler.format.oci import machine_platform
from bundler.terminal import Terminal, size


@dataclass(frozen=True)
class Shown:
    """An image of the serving version.

    Attributes:
        length_bytes: Of all that the bundle holds of it, every platform and signature.
        told: What became of it, or "".
    """

    name: str
    platform: str
    digest: str
    length_bytes: int
    told: str


class Images:
    """The images of one state's serving version.

    Args:
        layout: The state.
        terminal: Progress and warnings.
        find: Finds the engine.
    """

    def __init__(self, layout: StateLayout, terminal: Terminal, find: Callable[[], Engine] = find_engine) -> None:
        self._layout, self._terminal, self._find = layout, terminal, find

    def load(self, now: datetime) -> ImageRecord | None:
        """Loads what is not loaded yet, and removes what no kept version uses; None where there is nothing to do.

        Raises:
            NotReady: Nothing is installed, or the seal does not open.
            BadBundle: The version was changed on this disk.
            Busy: Images are being loaded.
        """
        # Who asks for images wants those of the next version too, whatever keeps these from loading.
        self._layout.no_images.unlink(missing_ok=True)
        secrets = Seal(self._layout.keys).open()
        version = versions.read_current(self._layout, secrets)
        with (
            exclusive(self._layout.run / "images.lock", "images are being loaded on this box"),
            versions.open_version(self._layout, secrets, version) as bundle,
        ):
            before = image_record.read(self._layout)
            specs = bundle.index.service.images
            if not specs and before is None:
                return None
            kept = (*before.images, *before.earlier) if before is not None else ()
            looked = [self._looked(bundle, spec, kept) for spec in specs]
            earlier = self._announced(version.bundle, now, looked, kept)
            told = tuple(item if isinstance(item, ImageTold) else self._loaded(bundle, item) for item in looked)
            left = self._without(secrets, earlier, told)
            record = ImageRecord(version.bundle, now.isoformat(timespec="seconds"), told, left)
            image_record.write(self._layout, record)
            return record

    def shown(self) -> list[Shown]:
        """Returns the images of the serving version; raises as `load`."""
        with self._open() as bundle:
            record = image_record.read(self._layout)
            mine = record.images if record is not None and record.bundle == bundle.descriptor.bundle else ()
            told = {item.name: item.line for item in mine}
            return [
                Shown(spec.name, spec.platform, spec.digest, _length(bundle, spec), told.get(spec.name, ""))
                for spec in bundle.index.service.images
            ]

    def export(self, name: str, folder: Path) -> int:
        """Writes an image as an OCI layout into a new folder, as the bundle holds it; returns its bytes.

        Raises:
            BadInput: There is no such image, or the folder lies in the state.
            Busy: The folder is there.
            BadBundle: A chunk is not what was signed.
        """
        target = folder.absolute()
        if target.resolve().is_relative_to(self._layout.root.resolve()):
            raise BadInput(f"{folder} lies in the state, which holds nothing in the clear", "name another folder")
        with self._open() as bundle:
            specs = {spec.name: spec for spec in bundle.index.service.images}
            if name not in specs:
                raise BadInput(f"there is no image {name}", f"there are {', '.join(sorted(specs)) or 'none'}")
            if target.exists():
                raise Busy(f"{folder} is there already", "name a new folder")
            length = _length(bundle, specs[name])
            with self._terminal.progress(f"writing {size(length)}", length) as progress, as_root():
                try:
                    _write(bundle, specs[name], target, progress.advance)
                except BaseException:
                    shutil.rmtree(target, ignore_errors=True)  # it was not there, and half of it is in nobody's way
                    raise
            return length

    def _open(self) -> Bundle:
        secrets = Seal(self._layout.keys).open()
        return versions.open_version(self._layout, secrets, versions.read_current(self._layout, secrets))

    def _looked(self, bundle: Bundle, spec: ImageSpec, kept: Iterable[ImageTold]) -> Coming | ImageTold:
        try:
            return coming(pick(bundle, spec, machine_platform(os.uname().machine)), self._find(), kept)
        except (LifeboatError, OSError) as error:
            return _problem(spec.name, error)

    def _announced(
        self, bundle: str, now: datetime, looked: Iterable[Coming | ImageTold], kept: tuple[ImageTold, ...]
    ) -> tuple[ImageTold, ...]:
        """Writes down what may come into an engine before any does; returns that with what we brought before."""
        told = [item for item in looked if isinstance(item, ImageTold)]
        news = [item for item in looked if isinstance(item, Coming)]
        earlier = (*(item.told for item in news), *kept)
        if any(not item.is_there for item in news):
            told += [ImageTold(item.picked.spec.name, "", "", "loading has begun and not ended") for item in news]
            held = tuple({item.reference: item for item in earlier if item.engine}.values())
            record = ImageRecord(bundle, now.isoformat(timespec="seconds"), tuple(told), held)
            image_record.write(self._layout, record)
        return earlier

    def _loaded(self, bundle: Bundle, item: Coming) -> ImageTold:
        reference = item.picked.reference
        try:
            if not item.is_there:
                self._hand_over(bundle, item.picked, item.engine)
            item.engine.tag(reference, moving(reference))
        except (LifeboatError, OSError) as error:
            return _problem(item.picked.spec.name, error)
        return item.told

    def _hand_over(self, bundle: Bundle, picked: Picked, engine: Engine) -> None:
        length = picked.length_bytes
        with self._terminal.progress(f"loading image {picked.spec.name} into {engine.name}", length) as progress:
            engine.load(
                lambda target: write_archive(
                    bundle, picked, target, docker=engine.name == DOCKER, on_bytes=progress.advance
                )
            )
        found = engine.image_id(picked.reference)
        if found != picked.config.hex:
            raise SystemFailed(
                f"{engine.name} holds {found or 'nothing'} as {picked.reference}, not {picked.config.hex}"
            )

    def _without(
        self, secrets: SiteSecrets, earlier: Iterable[ImageTold], now: tuple[ImageTold, ...]
    ) -> tuple[ImageTold, ...]:
        """Removes what we loaded and no kept version uses; returns what of it is still there."""
        mine = {told.reference for told in now}
        old = {item.reference: item for item in earlier if item.engine and item.reference not in mine}.values()
        try:
            wanted = self._of_kept(secrets) if old else set()
        except LifeboatError as error:  # a version to go back to is damaged: its images are not known, and none goes
            self._terminal.note(f"earlier images stay: {error.fact}")
            return tuple(old)
        say, serving = self._terminal.note, {moving(reference) for reference in mine}
        return tuple(item for item in old if item.reference in wanted or not removed(item, self._find, say, serving))

    def _of_kept(self, secrets: SiteSecrets) -> set[str]:
        """Returns the names of images that a kept version would have."""
        found: set[str] = set()
        platform = machine_platform(os.uname().machine)
        for number in gc.kept(self._layout):
            version = versions.read_version(self._layout, secrets, number)
            with versions.open_version(self._layout, secrets, version) as bundle:
                for spec in bundle.index.service.images:
                    with suppress(BadBundle):  # of another platform: it was never loaded
                        found.add(pick(bundle, spec, platform).reference)
        return found


def after_switch(layout: StateLayout, terminal: Terminal, now: datetime, *, wanted: bool | None = None) -> list[str]:
    """Loads the images of a version that has just begun to serve; returns what to tell, and raises nothing of it.

    Args:
        layout: The state.
        terminal: Progress and warnings.
        now: Goes into the record.
        wanted: False leaves the engines alone, until images are asked for again; None does as was said last.
    """
    try:
        if wanted is None and layout.no_images.exists():
            return ["images: left alone, as was said last; `lifeboat-appliance image load` loads them"]
        if wanted is False:
            write_atomic(layout.no_images, b"", mode=0o600)
            return []
        record = Images(layout, terminal).load(now)
    except (LifeboatError, OSError) as error:
        fact = error.fact if isinstance(error, LifeboatError) else str(error)
        terminal.warn(f"images are not loaded: {fact}; see `lifeboat-appliance image load`")
        return []
    for item in record.images if record is not None else ():
        if item.problem:
            terminal.warn(item.line)
    return [item.line for item in record.images if item.engine] if record is not None else []


def _problem(name: str, error: LifeboatError | OSError) -> ImageTold:
    if isinstance(error, PartMissing):
        return ImageTold(name, "", "", f"{error.fact} ({error.hint})", absent=True)
    return ImageTold(name, "", "", error.fact if isinstance(error, LifeboatError) else str(error))


def _length(bundle: Bundle, spec: ImageSpec) -> int:
    return sum(asset.length_bytes for asset in bundle.index.assets if asset.path.startswith(f"{spec.prefix}/"))


def _write(bundle: Bundle, spec: ImageSpec, folder: Path, on_bytes: Callable[[int], None]) -> None:
    own = [asset for asset in bundle.index.assets if asset.path.startswith(f"{spec.prefix}/")]
    # Its index last: without it a folder is no layout.
    for asset in sorted(own, key=lambda asset: asset.path.endswith("/index.json")):
        target = folder / asset.path.removeprefix(f"{spec.prefix}/")
        make_folder(target.parent)
        with staged(target, mode=0o600) as file:
            for chunk in asset.chunks:
                buffer = memoryview(bytearray(chunk.length))
                bundle.volumes.read_chunk(chunk, buffer)
                file.write(buffer)
                on_bytes(chunk.length)
