"""A volume that somebody encrypted anew to the bundle's own recipient, which is public: it opens, and is refused.

age says who may read a file and not who wrote it; that a chunk is ours is said by its digest in the signed index.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from appliance.store import current, versions
from appliance.store.layout import StateLayout
from appliance.store.seal import Seal
from bundler.format import age
from bundler.format.bundle import Bundle
from bundler.format.errors import BadBundle

pytestmark = [pytest.mark.llm, pytest.mark.timeout(300)]


def opened(layout: StateLayout, number: int) -> Bundle:
    secrets = Seal(layout.keys).open()
    return versions.open_version(layout, secrets, versions.read_version(layout, secrets, number))


def vectors_of(bundle: Bundle) -> str:
    return next(asset.path for asset in bundle.index.assets if asset.path.endswith("vectors.npy"))


def forge(bundle: Bundle, asset: str) -> str:
    """Changes one byte of an asset and encrypts its volume as anybody can; returns how the chunk is named."""
    chunk = bundle.index.asset(asset).chunks[0]
    volume = bundle.descriptor.volumes[chunk.volume]
    path = bundle.volumes.root / volume.path
    plain = io.BytesIO()
    with path.open("rb") as file:
        identity = age.parse_identity(bundle.volumes.identities[volume.recipient])
        age.Reader(file, [identity], size=volume.length_bytes).copy_to(plain)
    data = bytearray(plain.getvalue())
    data[chunk.offset + chunk.length // 2] ^= 1
    forged = path.with_suffix(".forged")
    forged.write_bytes(age.encrypt(bytes(data), [age.parse_recipient(volume.recipient)]))
    assert forged.stat().st_size == volume.length_bytes, "its size would give it away"
    forged.replace(path)
    return f"chunk {chunk.sha256[:12]} at byte {chunk.offset} of {volume.path} is not what was signed"


@pytest.fixture
def layout(customer: Any, variants: Any, tmp_path: Path) -> StateLayout:
    """A box with two versions, of bundles with volumes of their own; the second one serves."""
    state = tmp_path / "state"
    shutil.copytree(customer.pristine, state, symlinks=True)
    made = StateLayout(state)
    made.make()
    current.activate(made, variants.Maker(made).version(variants.slow_search))
    return made


def test_a_chunk_of_it_is_never_used(layout: StateLayout) -> None:
    """Named with its volume and place; other chunks of the same file are what was signed, and are used."""
    with opened(layout, 2) as bundle:
        named = forge(bundle, vectors_of(bundle))
    with opened(layout, 2) as bundle:
        with pytest.raises(BadBundle) as refused:
            bundle.read(vectors_of(bundle))
        assert str(refused.value) == named
        assert bundle.read("selftest.jsonl")


def test_between_two_reads_the_open_one_stays_what_was_signed(layout: StateLayout) -> None:
    """A file that took its place is not read by whoever has the old one open; one written over is refused."""
    with opened(layout, 2) as bundle:
        path, before = vectors_of(bundle), bundle.read(vectors_of(bundle))
        volume = bundle.volumes.root / bundle.descriptor.volumes[0].path
        inode = volume.open("r+b")
        forge(bundle, path)
        assert bundle.read(path) == before
        with inode:
            inode.write(volume.read_bytes())
        with pytest.raises(BadBundle, match=r"vol/0001\.age is damaged near byte"):
            bundle.read(path)


def test_a_box_that_starts_with_it_goes_back(layout: StateLayout, tmp_path: Path) -> None:
    """The version before serves, and the reason on record names the chunk."""
    with opened(layout, 2) as bundle:
        named = forge(bundle, vectors_of(bundle))
    url = tmp_path / "url"
    words = ["serve", "--state", str(layout.root), "--port", "0", "--port-file", str(url)]
    with subprocess.Popen([sys.executable, "-m", "appliance", *words], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "serving version" in line:
                assert "version 1" in line
                break
        process.terminate()
    why = current.given_up(layout, 2)
    assert why is not None
    assert (why.what, why.reason) == ("rolled back", named)
    assert current.current_number(layout) == 1
