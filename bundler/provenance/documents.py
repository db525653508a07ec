"""SBOM and provenance of a bundle: inside it always, and beside it what the profile shows to everybody."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bundler import __version__
from bundler.embedding.conversions import runtime_version
from bundler.format.content import PROVENANCE, SBOM
from bundler.format.limits import CHUNK_BYTES_SMALL
from bundler.format.manifest import Descriptor
from bundler.format.trust.verify import TargetFile
from bundler.local import local_path
from bundler.plan import Found
from bundler.profile.model import BESIDE, Profile
from bundler.provenance import sbom, statement
from bundler.provenance.envelope import signed
from bundler.provenance.local_digests import digest_of
from bundler.provenance.material import Material, parts_of, software_of
from bundler.repository.keyring import Keyring
from bundler.repository.survey import Captured, Surveyed

SBOM_PATH, PROVENANCE_PATH = "sbom.cdx.json", "provenance.intoto.json"
LICENCES = "licences"


class Documents:
    """Writes the documents of one build; see `repository.about.About`.

    Args:
        profile: What is built.
        profile_sha256: Digest of its file.
        sources: What every source delivered.
        keyring: Signs what is shown to everybody.
        repository: Its id.
        targets: Signed files of the repository, for the software that it carries.
        work: The private work folder.
    """

    def __init__(
        self,
        profile: Profile,
        profile_sha256: str,
        sources: Sequence[Found],
        keyring: Keyring,
        repository: str,
        targets: Mapping[str, TargetFile],
        work: Path,
    ) -> None:
        self.names = tuple(BESIDE[name] for name in profile.public)
        self._profile, self._profile_sha256, self._sources = profile, profile_sha256, tuple(sources)
        self._keyring, self._repository, self._work = keyring, repository, work
        self._program, self._software = software_of(targets)
        self._material: Material | None = None
        self._licences = b""

    def inside(self, surveyed: Sequence[Surveyed], content_sha256: str) -> tuple[Captured, ...]:
        parts = parts_of(surveyed)
        # A large model is not read once more for this: its chunks are known.
        chunks = {
            part.source: f"{statement.CHUNKS_DIGEST}:{part.chunks_sha256}" for part in parts if part.kind == "gguf"
        }
        local = [found for found in self._sources if found.source.startswith("file:") and not found.sha256]
        digests = {
            found.source: chunks.get(found.source) or digest_of(local_path(self._profile, found.source))
            for found in local
        }
        self._material = Material(
            self._profile.name,
            self._profile.title,
            self._keyring.msp().id,
            self._repository,
            content_sha256,
            parts,
            self._sources,
            digests,
            self._program,
            self._software,
        )
        self._licences = _licences(surveyed)
        provenance = statement.full(self._material, _versions(), self._profile_sha256)
        return (
            self._captured(SBOM_PATH, SBOM, sbom.full(self._material)),
            self._captured(PROVENANCE_PATH, PROVENANCE, provenance),
        )

    def beside(self, descriptor: Descriptor) -> Mapping[str, bytes]:
        if self._material is None:
            raise RuntimeError("the documents beside a bundle are written after those inside it")
        made = {}
        if SBOM in self._profile.public:
            made[BESIDE[SBOM]] = sbom.public(self._material, descriptor)
        if PROVENANCE in self._profile.public:
            told = statement.public(self._material, _versions(), descriptor)
            made[BESIDE[PROVENANCE]] = signed(told, self._keyring)
        if LICENCES in self._profile.public:
            made[BESIDE[LICENCES]] = self._licences
        return made

    def _captured(self, path: str, kind: str, data: bytes) -> Captured:
        file = self._work / "about" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        return Captured(path, file, kind, "", "", (), CHUNK_BYTES_SMALL)


def _licences(surveyed: Sequence[Surveyed]) -> bytes:
    """Who made what is in the bundle and under which terms, with the texts that must travel with it."""
    stated = [
        f"{item.captured.path}: {item.captured.licence}, from {item.captured.source.partition('#')[0]}\n"
        for item in surveyed
        if item.captured.licence and item.captured.kind != "licence" and not item.captured.source.startswith("file:")
    ]
    texts = [item.captured for item in surveyed if item.captured.kind == "licence"]
    bodies = [f"\n== {text.path} ({text.licence})\n\n".encode() + text.file.read_bytes() for text in texts]
    return "".join(stated).encode() + b"".join(bodies)


def _versions() -> dict[str, str]:
    """Versions of the builder and of what computes in it."""
    return {
        "lifeboat": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": runtime_version(),
    }
