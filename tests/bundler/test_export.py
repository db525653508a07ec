"""Assets as plain files again, from the released sample."""

from __future__ import annotations

import hashlib
import json
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from bundler.export import export
from bundler.format.bundle import Bundle, open_bundle
from bundler.format.errors import BadBundle, BadInput, Busy
from bundler.format.site import open_enrolment, open_keys
from bundler.format.trust.descriptors import newest_descriptor
from bundler.format.trust.medium import find_root, load_repository

SAMPLE = Path(__file__).parent.parent / "releases" / "1"
FACTS: dict[str, Any] = json.loads((SAMPLE / "expected.json").read_text())


def opened(folder: Path) -> Bundle:
    site = folder / "sites" / "sample"
    identity = open_enrolment((site / "enroll.age").read_bytes(), FACTS["site_code"]).identity
    keys = open_keys((site / "keys.age").read_bytes(), identity)
    made = datetime.fromisoformat(FACTS["made"])
    trusted = load_repository(
        folder, root=find_root(folder, FACTS["root_sha256"]), repository=None, now=made, remembered=None
    )
    descriptor = newest_descriptor(folder, trusted)
    assert descriptor is not None
    return open_bundle(folder, descriptor, keys)


def test_every_asset_comes_out_as_it_went_in(tmp_path: Path) -> None:
    """By its own path, closed to other users; one asset alone by name."""
    with opened(SAMPLE / "repository") as bundle:
        files = export(bundle, tmp_path / "all", (), lambda _: None, 3)
        one = export(bundle, tmp_path / "one", ["models/tiny.gguf"], lambda _: None, 1)
    found = {p.relative_to(tmp_path / "all").as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    assert found == FACTS["newest"]
    assert [path.name for path in one] == ["tiny.gguf"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)


def test_nothing_is_written_over_or_half(tmp_path: Path) -> None:
    """A file that is there, an unknown asset, and a damaged volume: each is told, and no file appears."""
    folder = Path(shutil.copytree(SAMPLE / "repository", tmp_path / "repository"))
    with opened(folder) as bundle:
        with pytest.raises(BadInput, match="holds no nothing"):
            export(bundle, tmp_path / "x", ["nothing"], lambda _: None, 2)
        export(bundle, tmp_path / "x", ["models/tiny.gguf"], lambda _: None, 2)
        with pytest.raises(Busy, match="is there already"):
            export(bundle, tmp_path / "x", (), lambda _: None, 2)
    volume = folder / bundle.descriptor.volumes[0].path
    data = bytearray(volume.read_bytes())
    data[1000] ^= 1
    volume.write_bytes(data)
    with opened(folder) as bundle, pytest.raises(BadBundle):
        export(bundle, tmp_path / "y", ["models/tiny.gguf"], lambda _: None, 2)
    assert not list((tmp_path / "y").rglob("*.gguf*"))
