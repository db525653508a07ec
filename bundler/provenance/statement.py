"""Where a bundle comes from: an in-toto Statement v1 with the SLSA Provenance v1 predicate. Pure.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md, https://slsa.dev/spec/v1.0/provenance
It holds no times: one set of sources gives one statement, and the signed `bundle.json` says when it was made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bundler.format.manifest import Descriptor, FileDigest, Volume
from bundler.plan import Found
from bundler.provenance.locator import attached, known, purl
from bundler.provenance.material import Material
from bundler.sources.source import RegistrySource

STATEMENT, PREDICATE = "https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
# docs/provenance.md says what it means.
BUILD_TYPE = "urn:x-lifeboat:build:1"
CONTENT_DIGEST, CHUNKS_DIGEST, FOLDER_DIGEST = "lifeboatContentV1", "lifeboatChunksV1", "lifeboatFolderV1"


def full(material: Material, versions: Mapping[str, str], profile_sha256: str) -> bytes:
    """Returns the statement that lies inside the bundle: its subjects are the content and every asset.

    Args:
        material: What was captured.
        versions: Of the builder and of what computes in it, by name.
        profile_sha256: Digest of the profile's file.
    """
    subjects = [{"name": material.profile, "digest": {CONTENT_DIGEST: material.content_sha256}}]
    for part in material.parts:
        whole = {"sha256": part.sha256} if part.sha256 else {}
        subjects.append({"name": part.path, "digest": {**whole, CHUNKS_DIGEST: part.chunks_sha256}})
    profile = {"name": material.profile, "digest": {"sha256": profile_sha256}}
    sources = [item for found in material.sources for item in _resolved(found, material.digests)]
    return _written(subjects, {"profile": profile}, sources, _run(material, versions))


def public(material: Material, versions: Mapping[str, str], descriptor: Descriptor) -> bytes:
    """Returns the statement for who has no key: its subjects are the ciphertext files that they hold.

    What the customer's own content is stays out, and so do digests of it: a digest tells who guesses right. So does
    the name of the profile, which may be the customer's.
    """
    files: tuple[FileDigest | Volume, ...] = (descriptor.index, *descriptor.volumes)
    subjects = [{"name": file.path, "digest": {"sha256": file.sha256}} for file in files]
    remote = [found for found in material.sources if known(found.source) is not None]
    sources = [item for found in remote for item in _resolved(found, {})]
    run = _run(material, versions)
    run["metadata"] = {"invocationId": f"{descriptor.repository}/{descriptor.bundle}"}
    return _written(subjects, {"bundle": descriptor.bundle}, sources, run)


def _written(
    subjects: list[dict[str, Any]], parameters: dict[str, Any], sources: list[dict[str, Any]], run: dict[str, Any]
) -> bytes:
    definition = {"buildType": BUILD_TYPE, "externalParameters": parameters, "resolvedDependencies": sources}
    predicate = {"buildDefinition": definition, "runDetails": run}
    value = {"_type": STATEMENT, "subject": subjects, "predicateType": PREDICATE, "predicate": predicate}
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False).encode() + b"\n"


def _run(material: Material, versions: Mapping[str, str]) -> dict[str, Any]:
    return {"builder": {"id": f"urn:x-lifeboat:msp:{material.msp}", "version": dict(versions)}}


def _resolved(found: Found, digests: Mapping[str, str]) -> list[dict[str, Any]]:
    """A source, and the remote files that it was made of, or what a registry keeps beside it."""
    source = known(found.source)
    link = purl(source, found.resolved)
    uri = str(link) if link is not None else found.source
    told = {
        "source": found.source,
        "resolved": found.resolved,
        "licence": found.licence,
        "licenceOfTheSource": found.declared,
        "signature": found.signature,
    }
    annotations = {name: value for name, value in told.items() if value}
    items = [{"name": found.part, "uri": uri, "digest": _digest(found, digests), "annotations": annotations}]
    for part in found.parts:
        beside = str(attached(source, part.sha256)) if isinstance(source, RegistrySource) else uri
        items.append({"name": part.path, "uri": beside, "digest": {"sha256": part.sha256}, "annotations": {}})
    return [{name: value for name, value in item.items() if value} for item in items]


def _digest(found: Found, digests: Mapping[str, str]) -> dict[str, str]:
    if found.sha256:
        return {"sha256": found.sha256}
    algorithm, _, value = digests.get(found.source, "").partition(":")
    return {algorithm: value} if value else {}
