"""Files of artifacts in a real registry: ModelPack and ORAS layouts, and what a hostile archive may try."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
from typing import Any

import pytest

from bundler.format.errors import BadInput
from bundler.sources.fetch import fetch
from bundler.sources.place import Place

pytestmark = pytest.mark.skipif(
    shutil.which("skopeo") is None, reason="skopeo is not installed: apt-get install skopeo"
)
WEIGHT, TITLE = "application/vnd.cncf.model.weight.v1", "org.opencontainers.image.title"
FILEPATH, OLD_FILEPATH = "org.cncf.model.filepath", "org.cnai.model.filepath"
MODEL = b"GGUF" + bytes(range(256)) * 300


def _source(push: Any, member: str) -> str:
    return f"registry:{push.host}/{push.name}:1/{member}"


def _tar(*entries: tarfile.TarInfo, data: bytes = b"", form: int = tarfile.PAX_FORMAT) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=form) as archive:
        for entry in entries:
            entry.size = len(data) if entry.isreg() else 0
            archive.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def _entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, link
    return entry


@pytest.mark.parametrize(
    ("media_type", "name"),
    [
        (f"{WEIGHT}.raw", FILEPATH),
        ("application/vnd.cnai.model.weight.v1.raw", OLD_FILEPATH),
        ("application/octet-stream", TITLE),
    ],
)
def test_a_raw_layer_is_the_file_itself(push: Any, place: Place, media_type: str, name: str) -> None:
    """ModelPack under both its names, and ORAS: the layer whose annotation names the file, as it lies in the cache."""
    layer = push.blob(MODEL, media_type, annotations={name: "model.gguf"})
    pushed = push.artifact([push.blob(b"read me", "text/plain", annotations={name: "README.md"}), layer], "1")
    found = fetch(_source(push, "model.gguf"), place)
    assert found.path.read_bytes() == MODEL
    assert (found.resolved, f"sha256:{found.sha256}") == (pushed["digest"], layer["digest"])
    assert found.path.name == "model.gguf"
    assert found.path.resolve().is_relative_to(place.cache)


@pytest.mark.parametrize("packing", ["tar", "tar+gzip"])
def test_a_file_within_a_packed_layer_is_taken_out(push: Any, place: Place, packing: str) -> None:
    """A layer that is an archive is read in the confined child; its other files stay where they are."""
    data = _tar(_entry("model", tarfile.DIRTYPE), _entry("model/model.gguf"), data=MODEL)
    layer = push.blob(gzip.compress(data) if "gzip" in packing else data, f"{WEIGHT}.{packing}", annotations={})
    push.artifact([layer], "1", "application/vnd.cncf.model.config.v1+json")
    found = fetch(_source(push, "model/model.gguf"), place)
    assert found.path.read_bytes() == MODEL
    assert found.path.is_relative_to(place.work)


def test_what_an_artifact_lacks_is_told_with_what_it_has(push: Any, place: Place) -> None:
    """A misspelt name gets the list, from annotations and from archives."""
    push.artifact([push.blob(MODEL, f"{WEIGHT}.raw", annotations={FILEPATH: "model.gguf"})], "1")
    with pytest.raises(BadInput) as named:
        fetch(_source(push, "modell.gguf"), place)
    assert named.value.hint == "it has model.gguf"
    push.artifact([push.blob(_tar(_entry("a.gguf")), f"{WEIGHT}.tar")], "1")
    place.work.joinpath("registry").rename(place.work / "before")
    with pytest.raises(BadInput) as packed:
        fetch(_source(push, "b.gguf"), place)
    assert packed.value.hint == "they hold a.gguf"


def test_two_layers_of_one_name_are_refused(push: Any, place: Place) -> None:
    """Which of two files is meant nobody can say."""
    layers = [push.blob(data, f"{WEIGHT}.raw", annotations={FILEPATH: "model.gguf"}) for data in (MODEL, MODEL[:-1])]
    push.artifact(layers, "1")
    with pytest.raises(BadInput, match="2 layers"):
        fetch(_source(push, "model.gguf"), place)


def _sparse() -> bytes:
    """A PAX sparse file (GNU 1.0) that would be a terabyte of zeros."""
    entry = tarfile.TarInfo("model.gguf")
    entry.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "model.gguf",
        "GNU.sparse.realsize": str(1 << 40),
    }
    return _tar(entry, data=b"0\n".ljust(512, b"\0"))


TRICKS = {
    "a symbolic link": _tar(_entry("model.gguf", tarfile.SYMTYPE, "/etc/passwd")),
    "a hard link": _tar(_entry("model.gguf", tarfile.LNKTYPE, "../../etc/passwd")),
    "a device": _tar(_entry("model.gguf", tarfile.CHRTYPE)),
    "a FIFO": _tar(_entry("model.gguf", tarfile.FIFOTYPE)),
    "leaves its folder": _tar(_entry("../model.gguf"), _entry("model.gguf"), data=MODEL),
    "'/model.gguf' leaves its folder": _tar(_entry("/model.gguf"), data=MODEL),
    "twice": _tar(_entry("model.gguf"), _entry("model.gguf"), data=MODEL),
    "sparse": _sparse(),
    "not a readable tar": _tar(_entry("model.gguf"), data=MODEL)[:-20_000],
    "not a readable tar archive": MODEL,
}


@pytest.mark.parametrize("told", TRICKS)
def test_what_a_sound_archive_never_holds_is_refused(push: Any, place: Place, told: str) -> None:
    """One trick an archive, each refused with its reason and nothing left under the name."""
    push.artifact([push.blob(TRICKS[told], f"{WEIGHT}.tar")], "1")
    with pytest.raises(BadInput, match=told):
        fetch(_source(push, "model.gguf"), place)
    assert list(place.work.rglob("model.gguf")) == []


@pytest.mark.parametrize(
    ("data", "packing", "told"),
    [
        (gzip.compress(_tar(_entry("model.gguf"), data=bytes(64 << 20))), "tar+gzip", "would grow from"),
        (gzip.compress(_tar(_entry("model.gguf"), data=MODEL))[:-30], "tar+gzip", "ends too early"),
        (gzip.compress(_tar(_entry("model.gguf"), data=MODEL)) + b"more", "tar+gzip", "behind the end"),
        (b"(\xb5/\xfd" + bytes(40), "tar+zstd", "tar.zstd are not read"),
        (MODEL, "tar+gzip", "not a readable tar archive"),
    ],
    ids=["bomb", "cut", "tail", "zstd", "no gzip"],
)
def test_a_packing_that_is_not_sound_is_refused(push: Any, place: Place, data: bytes, packing: str, told: str) -> None:
    """A bomb, a cut stream, a hidden tail and a packing that is not read."""
    push.artifact([push.blob(data, f"{WEIGHT}.{packing}")], "1")
    with pytest.raises(BadInput, match=told):
        fetch(_source(push, "model.gguf"), place)
