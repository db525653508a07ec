"""Delivers images and artifacts of OCI registries, by digest.

Rules: a tag is resolved once and pinned; from the pinned digest down every manifest, config and layer is hashed by us
against what the one above says of it; a digest that is in the cache whole is not asked for again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from bundler.files import make_folder
from bundler.format.errors import BadBundle, BadInput, SourceFailed
from bundler.format.oci import ALL, Descriptor, Manifest, choose, fits, platform_of, read_json, read_manifest
from bundler.sources import artifact
from bundler.sources.attached import LOOKED_FOR, Attachment, bounded, tag_of
from bundler.sources.blobs import Blobs, digest_of
from bundler.sources.layout import Layout
from bundler.sources.place import Place
from bundler.sources.referrers import PATIENCE, listed
from bundler.sources.skopeo import Absent, Closed, Skopeo
from bundler.sources.source import Fetched, Part, RegistrySource
from bundler.sources.space import check_space

_DOCKER = "application/vnd.docker."
_LOG = logging.getLogger(__name__)
_NONE_TAKEN = "no signatures are taken from there, and a lock that is made now says so"
T = TypeVar("T")


def fetch(source: RegistrySource, place: Place) -> Fetched:
    """Returns a file of an artifact; where something is attached to the artifact, that in `layout`.

    Raises:
        BadInput: The source names no member, or the artifact has it not, or in a form that is not read.
        SourceFailed: The registry did not deliver it, or something else.
        PartMissing: skopeo is not installed.
    """
    if not source.member:
        raise BadInput(f"{source} names an image: a model is a file of an artifact", f"write {source}/FILE.gguf")
    asked = _Asked(source, place)
    digest = asked.digest()
    manifest = asked.manifest(digest)
    if manifest.is_index:
        if len(manifest.children) != 1:
            raise BadInput(f"{source} is an index of {len(manifest.children)} manifests", "name one by its digest")
        digest = manifest.children[0].digest
        manifest = asked.manifest(digest)
    wanted = artifact.layers_of(source.member, manifest, str(source))
    # All of the artifact: skopeo copies whole manifests.
    asked.take(digest, manifest)
    found = artifact.extract(str(source), source.member, wanted, asked.blobs, place.work)
    if place.attached:
        layout = _stated(_Asked(source, place), tuple(dict.fromkeys((asked.digest(), digest))))
        if layout.attachments:
            found = replace(found, parts=_parts(layout.attachments), layout=layout)
    return replace(found, resolved=asked.resolved)


def fetch_image(source: RegistrySource, platform: str, place: Place) -> Fetched:
    """Returns a container image: its manifest, and in `layout` all of it.

    Args:
        source: Without a member.
        platform: OS/ARCHITECTURE, or `oci.ALL` for the index as it is.
        place: Where to look and to keep.

    Raises:
        BadInput: It is no container image, or has none for the platform.
        SourceFailed: The registry did not deliver it, or something else.
        PartMissing: skopeo is not installed.
    """
    if source.member:
        raise BadInput(f"{source} names a file: an image is a whole", f"write registry:{source.name}@sha256:...")
    asked = _Asked(source, place)
    top = asked.digest()
    manifest, chosen = asked.manifest(top), top
    if manifest.is_index and platform != ALL:
        chosen = _translated(lambda: choose(manifest, platform, str(source))).digest
    leaves = asked.leaves(chosen)
    for digest, leaf in leaves.items():
        asked.take(digest, leaf)
    _check_images(asked, leaves, platform)
    length_bytes = asked.length_bytes  # without what is attached: who signs it later changes nothing of it
    attachments = tuple(asked.attached([top, chosen, *leaves]))
    media_type = asked.manifest(chosen).media_type
    described = Descriptor(media_type, chosen, len(asked.read[chosen]))
    layout = Layout(described, platform, tuple(asked.digests), attachments, asked.blobs)
    path, parts = asked.blobs.path(chosen), _parts(attachments)
    return Fetched(path, str(source), length_bytes, described.hex, None, None, asked.resolved, parts, layout)


class _Asked:
    """One source that is being fetched.

    Attributes:
        resolved: The digest that a tag stands for, "" where the source says it itself.
        read: The manifests that were read of it, by digest.
        digests: The size of everything that was taken, by digest.
    """

    def __init__(self, source: RegistrySource, place: Place) -> None:
        self._source, self._place = source, place
        self.blobs = Blobs(place.cache / "registry")
        self.skopeo: Skopeo | None = None if place.offline else Skopeo(source.name, told=place.tell)
        self.resolved = ""
        self.read: dict[str, bytes] = {}
        self.digests: dict[str, int] = {}

    @property
    def length_bytes(self) -> int:
        return sum(self.digests.values())

    @property
    def pinned_parts(self) -> dict[str, str] | None:
        """The digest of what was attached to it when the lock was made, by tag; None where no lock knows it."""
        pin = self._place.pins.get(str(self._source))
        return None if pin is None else {part.path: f"sha256:{part.sha256}" for part in pin.parts}

    def digest(self) -> str:
        """Returns the digest that is wanted: the source's own, the lock's, or what the tag stands for now."""
        if self._source.digest:
            return self._source.digest
        pin = self._place.pins.get(str(self._source))
        self.resolved = (pin.resolved if pin is not None else "") or self._look_up()
        return self.resolved

    def manifest(self, digest: str) -> Manifest:
        """Returns a manifest or index by its digest."""
        data = self.read.get(digest) or self.blobs.small(digest)
        if data is None:
            data = self._raw(f"@{digest}")
            if digest_of(data) != digest:
                fact = f"{self._source}: expected {digest}, the registry delivers {digest_of(data)}"
                raise SourceFailed(fact, "the registry is damaged, or somebody stands between")
            self.blobs.keep(data)
        self.read[digest] = data
        self.digests[digest] = len(data)
        return _translated(lambda: read_manifest(data, f"{self._source} ({digest[:19]})"))

    def leaves(self, digest: str) -> dict[str, Manifest]:
        """Returns the manifests of images below a digest, itself where it is one."""
        manifest = self.manifest(digest)
        if not manifest.is_index:
            return {digest: manifest}
        found = {child.digest: self.manifest(child.digest) for child in manifest.children}
        if deep := [child for child, leaf in found.items() if leaf.is_index]:
            raise BadInput(f"{self._source} has an index within its index, {deep[0]}", "name one of its images")
        if not found:
            raise BadInput(f"{self._source} is an index of nothing")
        return found

    def take(self, digest: str, manifest: Manifest) -> None:
        """Brings the blobs of a manifest into the cache and checks each.

        Raises:
            SourceFailed: One did not come, or is another than the manifest says.
            NoSpace: They do not fit; nothing was asked for.
        """
        self.digests |= {blob.digest: blob.length_bytes for blob in manifest.blobs}
        lacking = [blob for blob in manifest.blobs if not self.blobs.has(blob)]
        if not lacking:
            return
        self._reach(digest)
        total = sum(blob.length_bytes for blob in lacking)
        make_folder(self.blobs.folder)
        check_space(self.blobs.folder, total)
        watch = self._place.watch
        with nullcontext() if watch is None else watch(f"fetching {self._source}", total) as progress:
            self._copy(digest, manifest, _unheard if progress is None else progress.advance)
        if wrong := [blob.digest for blob in lacking if not self.blobs.has(blob)]:
            fact = f"{self._source}: {len(wrong)} blobs are not what the manifest {digest} says, {wrong[0]}"
            raise SourceFailed(fact, "the registry is damaged; run it again, or take another source")

    def attached(self, digests: Iterable[str], *, spare: bool = False) -> Iterator[Attachment]:
        """Yields signatures and other statements about something: those of the lock, or what the registry has now.

        Args:
            digests: Of what they are about.
            spare: Whether none are taken, with a warning, where the registry refuses to tell or the build is offline.

        Raises:
            SourceFailed: The registry cannot be asked, or lacks one that the lock pins.
        """
        pinned, taken_bytes = self.pinned_parts, 0
        if pinned is None:
            pinned = self._attached_now(dict.fromkeys(digests), spare=spare)
        for tag, digest in pinned.items():
            leaves = self.leaves(digest)
            taken_bytes += sum(blob.length_bytes for leaf in leaves.values() for blob in leaf.blobs)
            bounded(f"{self._source} with its {tag}", taken_bytes)
            for leaf_digest, leaf in leaves.items():
                self.take(leaf_digest, leaf)
            yield Attachment(tag, self.manifest(digest).media_type, digest, len(self.read[digest]))

    def _attached_now(self, digests: Iterable[str], *, spare: bool) -> dict[str, str]:
        """Returns what the registry has attached; it is asked once a build, whatever sources name files of it."""
        if spare and self.skopeo is None:
            _LOG.warning("%s: this build is offline: %s", self._source, _NONE_TAKEN)
            return {}
        wanted = tuple(digests)
        noted = self._note(" ".join((self._source.name, *wanted)), "attached")
        if noted.is_file():
            known: dict[str, str] = json.loads(noted.read_text())
            return known
        found = self._listed_now(wanted, spare=spare)
        noted.write_text(json.dumps(found))
        return found

    def _listed_now(self, digests: Iterable[str], *, spare: bool) -> dict[str, str]:
        """Returns the digests of what is attached, by tag; what the registry lists under no tag gets a name of ours."""
        found: dict[str, str] = {}
        for digest in digests:
            tags = [tag_of(digest, kind) for kind in LOOKED_FOR]
            tagged = {tag: self._tagged(tag, spare=spare) for tag in tags}
            found |= {tag: told for tag, told in tagged.items() if told is not None}
            self._reach(f"what refers to {digest}")
            for item in listed(self._source.name, digest, replace(PATIENCE, told=self._place.tell)):
                if item.digest in found.values():
                    continue
                if self.manifest(item.digest).subject != digest:
                    raise BadInput(f"{self._source}: {item.digest} is listed as attached to {digest} and is not")
                found[tag_of(digest, f".{item.hex[:12]}")] = item.digest
        return found

    def _tagged(self, tag: str, *, spare: bool) -> str | None:
        """Returns the digest of a tag, or None where the registry has it not; where `spare`, also where it refuses."""
        try:
            data = self._reach(tag).raw(f":{tag}")
        except Absent:
            return None
        except Closed as error:
            if not spare:
                raise
            _LOG.warning("%s: %s", error.fact, _NONE_TAKEN)
            return None
        return self.blobs.keep(data)

    def _copy(self, digest: str, manifest: Manifest, on_bytes: Callable[[int], None]) -> None:
        skopeo, keeps = self._reach(digest), not manifest.media_type.startswith(_DOCKER)
        config = manifest.config
        if not keeps and config is not None and not self.blobs.has(config):
            self.blobs.keep(skopeo.config(f"@{digest}"))  # skopeo rewrites it when it makes OCI's of Docker's
        self.blobs.path(digest).parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=self._under_way()) as work:
            sizes = [blob.length_bytes for blob in manifest.blobs]
            try:
                skopeo.copy(digest, self.blobs.root, Path(work), sizes=sizes, keeps=keeps, on_bytes=on_bytes)
            except Absent as error:
                raise SourceFailed(str(error), "the registry lacks a part of it: push it again") from error

    def _under_way(self) -> Path:
        """Returns where what is not whole yet lies: in the work folder, since the next build removes a killed one's."""
        same = self._place.work.stat().st_dev == self.blobs.folder.stat().st_dev
        return self._place.work if same else self.blobs.folder  # skopeo gives blobs their names by a rename

    def _reach(self, what: str) -> Skopeo:
        if self.skopeo is None:
            fact = f"{self._source}: {what} is not in the cache, and this build is offline"
            raise SourceFailed(fact, "build once with a network")
        return self.skopeo

    def _raw(self, reference: str) -> bytes:
        try:
            return self._reach(reference).raw(reference)
        except Absent as error:
            raise SourceFailed(str(error), "see that its name, tag or digest is right") from error

    def _look_up(self) -> str:
        """Asks what a tag stands for: once a build, since several sources may name files of the same artifact."""
        if not self._source.tag:
            raise BadInput(f"{self._source} has neither tag nor digest", "write NAME:TAG or NAME@sha256:DIGEST")
        name = f"{self._source.name}:{self._source.tag}"
        told = self._note(name, "digest")
        if told.is_file():
            return told.read_text()
        digest = self.blobs.keep(self._raw(f":{self._source.tag}"))
        told.write_text(digest)
        return digest

    def _note(self, about: str, kind: str) -> Path:
        """Returns where this build notes what a registry answered; the folder is there."""
        path = self._place.work / "registry" / f"{hashlib.sha256(about.encode()).hexdigest()[:16]}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _stated(asked: _Asked, digests: Sequence[str]) -> Layout:
    """Returns what is attached to an artifact, with the manifests that it speaks of, and none of its files.

    Args:
        asked: Of the artifact, anew: what it reads is what the layout holds.
        digests: Of the index that was named, if any, and last of the manifest.
    """
    manifests = [asked.manifest(digest) for digest in digests]
    attachments = tuple(asked.attached(digests, spare=True))
    top = Descriptor(manifests[-1].media_type, digests[-1], len(asked.read[digests[-1]]))
    return Layout(top, "", tuple(asked.digests), attachments, asked.blobs)


def _parts(attachments: Iterable[Attachment]) -> tuple[Part, ...]:
    return tuple(Part(item.tag, item.length_bytes, item.hex) for item in attachments)


def _check_images(asked: _Asked, leaves: dict[str, Manifest], platform: str) -> None:
    """Checks that containers can be made of them, on the platform that was asked for."""
    for digest, leaf in leaves.items():
        if platform == ALL and not leaf.is_image:
            continue  # build attestations lie in indexes, beside the images
        if leaf.config is None or not leaf.is_image:
            raise BadInput(f"{digest} is no container image: {leaf.artifact_type or 'its config is another'}")
        found = _platform(asked.blobs.small(leaf.config.digest) or b"", digest)
        if platform != ALL and not fits(platform, found):
            raise BadInput(f"{digest} is an image for {found or 'no platform'}, wanted is {platform}")
    if not any(leaf.is_image for leaf in leaves.values()):
        raise BadInput("the index has no container image")


def _platform(config: bytes, digest: str) -> str:
    return platform_of(_translated(lambda: read_json(config, f"the config of {digest}")))


def _translated(read: Callable[[], T]) -> T:
    """What is wrong with a foreign manifest is wrong with the source."""
    try:
        return read()
    except BadBundle as error:
        raise BadInput(error.fact, error.hint) from error


def _unheard(_: int) -> None:
    """Nobody watches."""
