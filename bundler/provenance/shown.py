"""Reads the documents about a bundle back: from inside it with the builder's keys, or what lies beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from bundler.files import read_limited
from bundler.format import paths
from bundler.format.content import PROVENANCE, SBOM
from bundler.format.errors import BadBundle, BadInput
from bundler.format.limits import INDEX_BYTES
from bundler.format.trust.descriptors import descriptor_paths
from bundler.inspection import open_listed, trust
from bundler.profile.model import BESIDE

_INSIDE = {SBOM: "sbom.cdx.json", PROVENANCE: "provenance.intoto.json"}


def inside(
    folder: Path,
    root_sha256: str | None,
    bundle: str | None,
    document: str,
    identities: Callable[[str], dict[str, str]],
    now: datetime,
) -> bytes:
    """Returns the document, `SBOM` or `PROVENANCE`, that lies in a bundle, the newest where none is named.

    Raises:
        BadInput: There is no such bundle, or it was made before bundles held such documents.
    """
    with open_listed(folder, root_sha256, bundle, identities, now) as opened:
        path = _INSIDE[document]
        if path not in {asset.path for asset in opened.index.assets}:
            raise BadInput(f"bundle {opened.index.bundle} holds no {path}", "it is from before; build again")
        return opened.read(path)


def beside(folder: Path, root_sha256: str | None, bundle: str | None, document: str, now: datetime) -> bytes:
    """Returns the document that lies beside a bundle for who has no key, once it was checked to be what was signed.

    Raises:
        BadInput: There is no such bundle, or its profile shows no such document.
        BadBundle: The file is not what was signed.
    """
    trusted = trust(folder, root_sha256, now)
    bundles = [path.split("/")[1] for path in descriptor_paths(trusted)]
    wanted = bundle or (bundles[-1] if bundles else "")
    path = f"bundles/{wanted}/{BESIDE[document]}"
    if path not in trusted.targets:
        raise BadInput(f"{folder} lists no {path}", f'it does where the profile says [bundle] public = ["{document}"]')
    data, target = read_limited(paths.inside(folder, path), INDEX_BYTES), trusted.targets[path]
    # Of the bytes that are shown, not of the file: a share may give others the next time.
    if (len(data), hashlib.sha256(data).hexdigest()) != (target.length, target.sha256):
        raise BadBundle(f"{path} is not what was signed", "copy this file to the medium again")
    return data
