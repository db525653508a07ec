import hashlib
import random
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from bundler.format import age
from bundler.format.bundle import check_chunks, open_bundle
from bundler.format.canonical import decode, encode
from bundler.format.errors import BadBundle, BadInput, FileMissing, WrongKey
from bundler.format.index import Index, encode_index
from bundler.format.manifest import Descriptor, FileDigest
from bundler.format.padding import pad_document
from bundler.format.record import to_json
from bundler.format.service import LadderSpec, LimitsSpec, Service
from bundler.repository.survey import Captured, survey
from bundler.repository.volumes import VolumeWriter

SERVICE = Service(
    "demo", "Demo", (), None, (), (), (), (), LadderSpec((), (), (), "", "", ""), LimitsSpec(1, 1, 1), None, ()
)
PREFIX = "bundles/1-0001-0123abcd"


def captured(folder: Path, name: str, data: bytes, cuts: tuple[int, ...] = ()) -> Captured:
    file = folder / name.replace("/", "_")
    file.write_bytes(data)
    return Captured(name, file, "gguf", "MIT", f"file:{name}", cuts, 1000)


class Made:
    """A small bundle on disk with known content."""

    def __init__(self, root: Path, work: Path, assets: Mapping[str, bytes], volume_bytes: int = 4_000) -> None:
        identity = age.X25519Identity.generate()
        self.root, self.keys = root, {str(identity.recipient): str(identity)}
        folder = root / PREFIX
        folder.mkdir(parents=True)
        writer = VolumeWriter(folder, PREFIX, identity.recipient, volume_bytes)
        made = tuple(
            writer.add(survey(captured(work, name, data), lambda _: None), lambda _: None)
            for name, data in assets.items()
        )
        volumes = writer.close()
        index = Index(1, "repo", "1-0001-0123abcd", "demo", made, SERVICE)
        sealed = age.encrypt(pad_document(encode_index(index)), [identity.recipient])
        (folder / "index.age").write_bytes(sealed)
        digest = FileDigest(f"{PREFIX}/index.age", len(sealed), hashlib.sha256(sealed).hexdigest())
        self.descriptor = Descriptor(
            1, "age-x25519", "repo", "1-0001-0123abcd", 1, 1, "now", str(identity.recipient), digest, volumes
        )


@pytest.fixture
def content() -> dict[str, bytes]:
    noise = random.Random(7)
    return {"models/a.gguf": noise.randbytes(9_500), "models/b.gguf": noise.randbytes(1_234), "empty": b""}


@pytest.fixture
def made(tmp_path: Path, content: dict[str, bytes]) -> Made:
    (tmp_path / "work").mkdir()
    return Made(tmp_path / "repo", tmp_path / "work", content)


def test_what_is_written_is_read_back(made: Made, content: dict[str, bytes]) -> None:
    """Every asset comes back whole, over several volumes, and every chunk checks."""
    with open_bundle(made.root, made.descriptor, made.keys) as bundle:
        assert {asset.path: bundle.read(asset.path) for asset in bundle.index.assets} == content
        assert len(made.descriptor.volumes) == 3
        assert check_chunks(bundle, lambda _: None) == sum(len(data) for data in content.values())


def test_any_stretch_is_read_at_its_offset(made: Made, content: dict[str, bytes]) -> None:
    """Random access gives the same bytes as the plaintext, over chunk borders and past the end."""
    noise, data = random.Random(3), content["models/a.gguf"]
    with open_bundle(made.root, made.descriptor, made.keys) as bundle:
        reader = bundle.reader("models/a.gguf")
        for _ in range(200):
            offset, length = noise.randrange(0, 10_000), noise.randrange(0, 4_000)
            buffer = bytearray(length)
            count = reader.read_at(offset, memoryview(buffer))
            assert bytes(buffer[:count]) == data[offset : offset + length]


def test_full_volumes_have_one_size(made: Made) -> None:
    """Only the last volume may differ, so that sizes do not tell where files end."""
    lengths = [volume.length_bytes for volume in made.descriptor.volumes]
    assert len(set(lengths[:-1])) == 1


def test_equal_content_is_stored_once(tmp_path: Path) -> None:
    """A second copy of a file costs no volume."""
    (tmp_path / "work").mkdir()
    data = random.Random(1).randbytes(3_000)
    made = Made(tmp_path / "repo", tmp_path / "work", {"a": data, "b": data})
    assert len(made.descriptor.volumes) == 1


@pytest.mark.parametrize("volume", [0, 1, 2])
def test_a_flipped_byte_is_found_and_named(made: Made, volume: int) -> None:
    """A single bit anywhere in a volume fails the deep check, with the volume's name."""
    path = made.root / made.descriptor.volumes[volume].path
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    bundle = open_bundle(made.root, made.descriptor, made.keys)
    with bundle, pytest.raises(BadBundle, match=path.name):
        check_chunks(bundle, lambda _: None)


def test_a_volume_sealed_to_the_same_recipient_is_refused(made: Made) -> None:
    """A thief who knows the public recipient can encrypt, and is found by the chunk's digest."""
    volume = made.descriptor.volumes[0]
    forged = age.encrypt(bytes(4_000), [age.X25519Recipient.from_string(volume.recipient)])
    (made.root / volume.path).write_bytes(forged)
    bundle = open_bundle(made.root, made.descriptor, made.keys)
    with bundle, pytest.raises(BadBundle, match="not what was signed"):
        check_chunks(bundle, lambda _: None)


def test_a_changed_index_is_refused_before_it_is_opened(made: Made) -> None:
    """The index is hashed whole first."""
    path = made.root / made.descriptor.index.path
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(BadBundle, match=r"index\.age is not what was signed"):
        open_bundle(made.root, made.descriptor, made.keys)


def test_missing_parts_and_keys_are_named(made: Made) -> None:
    """An absent volume is FileMissing, a foreign identity WrongKey."""
    with pytest.raises(WrongKey):
        open_bundle(made.root, made.descriptor, {})
    bundle = open_bundle(made.root, made.descriptor, made.keys)
    (made.root / made.descriptor.volumes[1].path).unlink()
    with bundle, pytest.raises(FileMissing, match=r"0002\.age"):
        check_chunks(bundle, lambda _: None)


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    """The builder never signs what it read twice in different states."""
    item = captured(tmp_path, "a", random.Random(1).randbytes(20_000))

    def shrink(_: int) -> None:
        item.file.write_bytes(b"")

    with pytest.raises(BadInput, match="changed while it was read"):
        survey(item, shrink)


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: bytes(len(data)), lambda _: b""])
def test_a_file_that_changes_after_the_survey_is_refused(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    """What is encrypted is what was hashed, or nothing is signed."""
    identity = age.X25519Identity.generate()
    writer = VolumeWriter(tmp_path, PREFIX, identity.recipient, 4_000)
    item = captured(tmp_path, "a", random.Random(1).randbytes(20_000))
    found = survey(item, lambda _: None)
    item.file.write_bytes(change(item.file.read_bytes()))
    with pytest.raises(BadInput, match="changed while it was read"):
        writer.add(found, lambda _: None)
    writer.abandon()


def test_the_index_holds_no_float() -> None:
    """The service that travels in the index has a canonical encoding."""
    assert decode(encode(to_json(SERVICE)), "service") == to_json(SERVICE)
