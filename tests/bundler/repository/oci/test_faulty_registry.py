"""A registry that breaks: what passes is waited out, what does not is told, and nothing half-fetched gets a name."""

from __future__ import annotations

import json
import random
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundler import inspection
from bundler.files import FileLayer
from bundler.format.errors import BadBundle, BadInput, NoSpace, SourceFailed, SystemFailed
from bundler.format.trust.verify import digest
from bundler.repository.oci import layers
from bundler.terminal import Terminal

MIB = 1 << 20
TITLE = "org.opencontainers.image.title"


@pytest.fixture
def place(front: Any) -> str:
    return f"{front.host}/faulty/{uuid.uuid4().hex[:12]}:main"


@pytest.fixture
def pushed(stock: Any, place: str, front: Any) -> Any:
    stock.build(b"1")
    done = stock.push(place)
    front.reset()
    return done


def _volume_parts(stock: Any, place: str) -> list[dict[str, Any]]:
    client = stock.client(place)
    layers = json.loads(client.manifest()[0])["layers"]
    client.close()
    return [layer for layer in layers if "/vol/" in layer["annotations"]["org.opencontainers.image.title"]]


def _first(times: int, fault: Any, method: str, part: str) -> Callable[[Any], Any]:
    """The first requests of a kind get a fault, later ones go through."""
    left = [times]

    def choose(seen: Any) -> Any:
        if seen.method != method or part not in seen.path or not left[0]:
            return None
        left[0] -= 1
        return fault

    return choose


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
def test_what_passes_is_waited_out(
    stock: Any, place: str, pushed: Any, front: Any, parts: Any, tmp_path: Path, status: int
) -> None:
    """Two refusals in a row, of a manifest and of a blob; a registry's word counts, and a day is not waited."""
    blob = _volume_parts(stock, place)[0]["digest"]
    for path in ("/manifests/", blob):
        stock.pauses.clear()
        front.fault = _first(2, parts.Answer(status, {"Retry-After": "7"}), "GET", path)
        stock.pull(place, tmp_path / path.strip("/").replace(":", ""))
        assert stock.pauses == [7.0, 7.0]
    front.fault = _first(2, parts.Answer(status, {"Retry-After": "86400"}), "POST", "/uploads/")
    stock.pauses.clear()
    with pytest.raises(SourceFailed, match=f"answers {status} and asks to wait 86400 s, after 1 try"):
        stock.push(f"{place}-again", cap=2 * MIB)
    assert stock.pauses == []


@pytest.mark.parametrize(
    ("status", "hint"), [(401, "log in"), (403, "log in"), (404, "push again"), (429, "later"), (500, "later")]
)
def test_what_does_not_pass_is_told(
    stock: Any, place: str, pushed: Any, front: Any, parts: Any, tmp_path: Path, status: int, hint: str
) -> None:
    """With the status, the registry's own word for it, and a way out; nothing has a name."""
    answer = parts.Answer(status, {}, b'{"errors":[{"code":"SO_IT_IS","message":"\x1b[2J"}]}')
    front.fault = lambda seen: answer if "/blobs/" in seen.path else None
    with pytest.raises(SourceFailed, match=rf"{status} SO_IT_IS") as failed:
        stock.pull(place, tmp_path / "usb")
    assert hint in failed.value.hint
    assert [path for path in (tmp_path / "usb").rglob("*") if path.is_file()] == []


def test_a_gateway_that_wants_smaller_layers(stock: Any, place: str, front: Any, parts: Any) -> None:
    """413 is told with the option that helps."""
    stock.build(b"1")
    front.fault = lambda seen: parts.Answer(413) if seen.method == "PUT" and "/uploads/" in seen.path else None
    with pytest.raises(BadInput, match="413") as refused:
        stock.push(place)
    assert "--layer-size" in refused.value.hint


def test_a_transfer_that_breaks_goes_on_where_it_broke(
    stock: Any, place: str, pushed: Any, front: Any, parts: Any, tmp_path: Path
) -> None:
    """Cut in the middle of a layer, the rest is asked for with a range, and nothing is fetched twice."""
    part = max(_volume_parts(stock, place), key=lambda layer: layer["size"])
    whole = stock.pull(place, tmp_path / "whole").fetched_bytes
    front.reset()
    front.fault = _first(1, parts.Cut(down_bytes=300_000), "GET", part["digest"])
    done = stock.pull(place, tmp_path / "usb")
    ranges = [seen.headers.get("range") for seen in front.asked("GET", part["digest"])]
    assert ranges == [None, f"bytes=300000-{part['size'] - 1}"]
    assert done.fetched_bytes == whole
    assert front.down_bytes() == whole + front.asked("GET", "/manifests/")[0].down_bytes


def test_a_registry_that_ignores_ranges(
    stock: Any, place: str, pushed: Any, front: Any, parts: Any, tmp_path: Path, registry: Any
) -> None:
    """It sends the blob from its beginning: what is here already is passed over."""
    part = max(_volume_parts(stock, place), key=lambda layer: layer["size"])
    whole = registry.blob(part["digest"]).read_bytes()
    asked = []

    def fault(seen: Any) -> Any:
        if part["digest"] not in seen.path or seen.method != "GET":
            return None
        asked.append(seen.headers.get("range"))
        return parts.Cut(down_bytes=300_000) if len(asked) == 1 else parts.Answer(200, {}, whole)

    front.fault = fault
    stock.pull(place, tmp_path / "usb")
    assert len(asked) == 2


@pytest.mark.parametrize("shown", ["bytes 400000-999999/1000000", "items 1-2", None])
def test_a_part_that_was_not_asked_for(
    stock: Any, place: str, pushed: Any, front: Any, parts: Any, tmp_path: Path, shown: str | None
) -> None:
    """A range further on, or none that is named, is no answer."""
    part = max(_volume_parts(stock, place), key=lambda layer: layer["size"])
    odd = parts.Answer(206, {"Content-Range": shown} if shown else {}, b"x" * 1000)
    cut = _first(1, parts.Cut(down_bytes=300_000), "GET", part["digest"])
    front.fault = lambda seen: cut(seen) or (odd if seen.headers.get("range") else None)
    with pytest.raises(SourceFailed, match="the registry answers with"):
        stock.pull(place, tmp_path / "usb")


def test_more_bytes_than_a_layer_has(
    stock: Any, place: str, pushed: Any, front: Any, parts: Any, tmp_path: Path
) -> None:
    """A blob without an end fills no disk."""
    part = max(_volume_parts(stock, place), key=lambda layer: layer["size"])
    endless = parts.Answer(200, {}, b"x" * (part["size"] + 1))
    front.fault = lambda seen: endless if part["digest"] in seen.path else None
    with pytest.raises(BadBundle, match="returns more than"):
        stock.pull(place, tmp_path / "usb")


def test_a_registry_that_stops_and_comes_back(stock: Any, make_registry: Callable[..., Any], tmp_path: Path) -> None:
    """It dies in the middle of a push, and of a pull: the command says so, and the next one goes on."""
    with make_registry() as mortal:
        front = mortal.front()
        place = f"{front.host}/mortal:main"
        stock.build(b"1")
        front.watch = lambda _: mortal.kill() if front.up_bytes() > 2_000_000 else None
        with pytest.raises(SourceFailed, match="after 3 tries"):
            stock.push(place)
        front.reset()
        mortal.start()
        done = stock.push(place)
        assert done.there_bytes > 0
        front.reset()
        front.watch = lambda _: mortal.kill() if front.down_bytes() > 2_000_000 else None
        with pytest.raises(SourceFailed, match="after 3 tries"):
            stock.pull(place, tmp_path / "usb")
        assert not (tmp_path / "usb" / "metadata").exists()
        front.reset()
        mortal.start()
        assert stock.pull(place, tmp_path / "usb").kept_bytes > 1_000_000


def test_a_blob_that_was_changed_in_the_store(
    stock: Any, place: str, pushed: Any, registry: Any, tmp_path: Path, flip: Callable[[Path, int], None]
) -> None:
    """Named as the registry's fault; the rest is kept, and a mended store completes it."""
    part = max(_volume_parts(stock, place), key=lambda layer: layer["size"])
    flip(registry.blob(part["digest"]), 4_000)
    with pytest.raises(BadBundle, match=f"other bytes than those of {part['digest']}"):
        stock.pull(place, tmp_path / "usb")
    assert not (tmp_path / "usb" / "metadata").exists()
    flip(registry.blob(part["digest"]), 4_000)
    assert stock.pull(place, tmp_path / "usb").fetched_bytes > 0


def test_small_files_that_were_changed_in_the_store(
    stock: Any, place: str, pushed: Any, registry: Any, tmp_path: Path, flip: Callable[[Path, int], None]
) -> None:
    """A changed timestamp is not even parsed."""
    client = stock.client(place)
    layers = json.loads(client.manifest()[0])["layers"]
    client.close()
    stamp = next(x for x in layers if "timestamp" in x["annotations"]["org.opencontainers.image.title"])
    flip(registry.blob(stamp["digest"]), 10)
    with pytest.raises(BadBundle, match=r"timestamp\.json in the registry is not what its manifest names"):
        stock.pull(place, tmp_path / "usb")


def test_a_blob_that_is_gone(stock: Any, place: str, pushed: Any, registry: Any, tmp_path: Path) -> None:
    """A registry whose store lost a layer: told by the digest, and a new push brings that layer alone."""
    part = max(_volume_parts(stock, place), key=lambda layer: layer["size"])
    registry.blob(part["digest"]).unlink()
    with pytest.raises(SourceFailed, match=f"404 .* for {part['digest']}"):
        stock.pull(place, tmp_path / "usb")
    assert stock.push(place).sent_bytes == part["size"]
    stock.pull(place, tmp_path / "usb")


def test_a_manifest_that_is_not_the_one_of_the_digest(
    stock: Any, place: str, pushed: Any, front: Any, parts: Any, tmp_path: Path
) -> None:
    """By digest, a registry cannot give another manifest."""
    front.fault = lambda seen: parts.Answer(200, {}, b"{}") if "/manifests/" in seen.path else None
    with pytest.raises(BadBundle, match="gives the manifest sha256:44136fa3"):
        stock.pull(f"{place.rsplit(':', 1)[0]}@{pushed.reference.rsplit('@', 1)[1]}", tmp_path / "usb")


def test_a_damaged_repository_is_not_pushed(
    stock: Any, place: str, flip: Callable[[Path, int], None], front: Any
) -> None:
    """Found while the parts are hashed, or where their digests are known while they are sent; no tag appears."""
    stock.build(b"1")
    volume = next(stock.publisher.folder.rglob("*/vol/0001.age"))
    flip(volume, 5_000)
    with pytest.raises(BadBundle, match="in the repository is not what was signed"):
        stock.push(place)
    flip(volume, 5_000)
    stock.push(f"{front.host}/faulty/{uuid.uuid4().hex[:12]}")
    flip(volume, 5_000)
    elsewhere = f"{front.host}/faulty/{uuid.uuid4().hex[:12]}"
    with pytest.raises(BadBundle, match="in the repository is not what was signed"):
        stock.push(elsewhere)
    assert stock.client(elsewhere).manifest() is None


class Full(FileLayer):
    """A disk without room: from the given sync on, nothing is written."""

    def __init__(self, after: int) -> None:
        self.left = after

    def sync(self, file: Any) -> None:
        self.left -= 1
        if self.left < 0:
            raise OSError(28, "No space left on device")
        super().sync(file)


@pytest.mark.parametrize("after", [0, 2, 7, 10, 14, 18])
def test_a_full_disk_leaves_no_half_medium(
    stock: Any, place: str, pushed: Any, tmp_path: Path, after: int, files: Callable[[Path], dict[str, bytes]]
) -> None:
    """Wherever it fills up, the folder is no medium before and a whole one after the next pull."""
    with pytest.raises(OSError, match="No space left"):
        stock.pull(place, tmp_path / "usb", layer=Full(after))
    assert not (tmp_path / "usb/metadata/timestamp.json").exists()
    stock.pull(place, tmp_path / "usb")
    stock.pull(place, tmp_path / "fresh")
    assert files(tmp_path / "usb") == files(tmp_path / "fresh")
    root = digest(stock.publisher.first_root())
    assert inspection.verify(tmp_path / "usb", root, None, stock.publisher._now, Terminal(json_output=True)).files


@pytest.mark.parametrize("error", [5, 28])
def test_no_step_of_an_update_leaves_a_broken_medium(
    stock: Any, place: str, pushed: Any, tmp_path: Path, load_script: Callable[[str], Any], error: int
) -> None:
    """The disk refuses at drawn steps: the folder verifies as before or as after, and the next pull completes it."""
    faults, root = load_script("faults"), digest(stock.publisher.first_root())
    stock.pull(place, tmp_path / "before")
    bundle = stock.build(b"2")
    stock.push(place)
    shutil.copytree(tmp_path / "before", tmp_path / "counted")
    counting = faults.Recorder()
    stock.pull(place, tmp_path / "counted", layer=counting)
    assert counting.steps > 40
    for step in random.Random(error).sample(range(1, counting.steps + 1), 12):
        medium = shutil.copytree(tmp_path / "before", tmp_path / f"step{step}")
        with pytest.raises(OSError, match=r"\[Errno"):
            stock.pull(place, medium, layer=faults.Failing(step, error))
        found = inspection.verify(medium, root, None, stock.publisher._now, Terminal(json_output=True))
        assert found.bundles[-1] in (pushed.bundle, bundle)
        assert stock.pull(place, medium).bundle == bundle
        assert inspection.verify(medium, root, None, stock.publisher._now, Terminal(json_output=True)).files


def test_room_is_counted_before_a_volume_is_fetched(
    stock: Any, place: str, pushed: Any, front: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lacks is told; only small files had been asked for."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(NoSpace, match=r"has 1\.0 kB free, [0-9.]+ MB are needed \([0-9.]+ MB more\)"):
        stock.pull(place, tmp_path / "usb")
    assert front.down_bytes() < 50_000


def test_a_disk_that_returns_other_bytes(
    stock: Any, place: str, pushed: Any, tmp_path: Path, flip: Callable[[Path, int], None]
) -> None:
    """What a later pull finds damaged is fetched again, and that alone."""
    stock.pull(place, tmp_path / "usb")
    volume = next((tmp_path / "usb").rglob("0001.age"))
    flip(volume, 9_000)
    assert stock.pull(place, tmp_path / "usb").fetched_bytes == volume.stat().st_size


def test_what_a_stopped_pull_of_another_state_left(
    stock: Any, place: str, pushed: Any, front: Any, parts: Any, tmp_path: Path
) -> None:
    """Parts of files that the tag no longer names do not fill the disk for ever."""
    index = next((stock.publisher.folder / "bundles").glob("*/index.age"))
    front.fault = _first(1, parts.Answer(404), "GET", digest(index.read_bytes()))
    with pytest.raises(SourceFailed):
        stock.pull(place, tmp_path / "usb")
    (tmp_path / "usb/.pull/parts/of-another-state.part").write_bytes(b"x" * 1000)
    stock.pull(place, tmp_path / "usb")
    assert not (tmp_path / "usb" / ".pull").exists()


@pytest.mark.parametrize("name", [".pull", ".pull/parts", ".pull/verified", "bundles", "metadata", "sites"])
def test_a_link_in_the_folder_leads_nowhere(stock: Any, place: str, pushed: Any, tmp_path: Path, name: str) -> None:
    """A stick that comes back cannot make a pull write elsewhere."""
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "usb" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadBundle, match="symbolic link"):
        stock.pull(place, tmp_path / "usb")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_disk_that_loses_what_was_written(
    stock: Any, place: str, pushed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every part came right and the disk returns something else: nothing gets a name, and nothing is kept."""

    class Lossy(FileLayer):
        def sync(self, file: Any) -> None:
            if file.name and ".pull/parts" in str(Path(f"/proc/self/fd/{file.fileno()}").readlink()):
                file.seek(0)
                file.write(b"lost")
            super().sync(file)

    with pytest.raises(BadBundle, match="the disk does not return what was written"):
        stock.pull(place, tmp_path / "usb", layer=Lossy())
    assert not (tmp_path / "usb" / "metadata").exists()
    assert stock.pull(place, tmp_path / "usb").bundle == pushed.bundle


def test_parts_that_do_not_make_the_file(stock: Any, place: str, pushed: Any, tmp_path: Path) -> None:
    """Two parts of a volume in the wrong order, each with its right digest: no file of that name appears."""
    client = stock.client(place)
    document = json.loads(client.manifest()[0])
    first, second = [x for x in document["layers"] if "/0001.age.000" in x["annotations"][TITLE]][:2]
    first["digest"], second["digest"] = second["digest"], first["digest"]
    assert first["size"] == second["size"]
    client.put_manifest(json.dumps(document).encode())
    client.close()
    with pytest.raises(BadBundle, match=r"0001\.age is not what was signed"):
        stock.pull(place, tmp_path / "usb")
    assert not list((tmp_path / "usb").rglob("0001.age"))


def test_what_a_power_cut_left_of_a_part_is_not_believed(
    stock: Any, place: str, pushed: Any, front: Any, parts: Any, tmp_path: Path
) -> None:
    """Bytes that the disk lost under a hidden name are found by their digest, and fetched again."""
    part = max(_volume_parts(stock, place), key=lambda layer: layer["size"])
    front.fault = lambda seen: parts.Answer(403) if part["digest"] in seen.path else None
    with pytest.raises(SourceFailed):
        stock.pull(place, tmp_path / "usb")
    for held in (tmp_path / "usb/.pull/parts").iterdir():
        held.write_bytes(bytes(held.stat().st_size + 10))
    front.reset()
    stock.pull(place, tmp_path / "usb")


def test_a_broken_disk_of_the_builder_is_no_fault_of_the_network(
    stock: Any, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read error of a volume is told as one, at once."""
    stock.build(b"1")
    stock.push(f"{place}-first")
    honest = layers._Slice.read

    class Broken:
        def read(self, _: int) -> bytes:
            raise OSError(5, "Input/output error")

    def read(self: Any, size: int = -1) -> bytes:
        self._file = Broken() if "/vol/" in self._name else self._file
        return bytes(honest(self, size))

    monkeypatch.setattr(layers._Slice, "read", read)
    with pytest.raises(SystemFailed, match="Input/output"):
        stock.push(place.replace("faulty", "disk"))
    assert stock.pauses == []
