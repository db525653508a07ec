"""Pushed to a real registry and pulled from it: the same as a copy, and nothing sent or fetched twice."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bundler import inspection
from bundler.format.errors import BadInput, SourceFailed, TooOld
from bundler.format.trust.verify import digest
from bundler.repository.copy import copy_for_sites
from bundler.repository.ledger import read_ledger
from bundler.repository.publish import Publisher
from bundler.terminal import Terminal

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
QUIET = Terminal(json_output=True)
MIB = 1 << 20


@pytest.fixture
def place(front: Any) -> str:
    """A name in the registry that no other test uses."""
    return f"{front.host}/customers/{uuid.uuid4().hex[:12]}:main"


def test_what_is_pulled_is_what_a_copy_writes(
    stock: Any, place: str, tmp_path: Path, files: Callable[[Path], dict[str, bytes]]
) -> None:
    """Byte for byte, with the same files and no others; it verifies, chunks and all."""
    stock.build(b"1")
    pushed = stock.push(place, "bristol")
    pulled = stock.pull(place, tmp_path / "pulled")
    copy_for_sites(stock.publisher, stock.keyring, ["bristol"], tmp_path / "usb", QUIET, now=NOW, full=True)
    assert files(tmp_path / "pulled") == files(tmp_path / "usb")
    assert (pulled.bundle, pulled.reference, pulled.sites) == (pushed.bundle, pushed.reference, ("bristol",))
    assert not list((tmp_path / "pulled").rglob(".*"))
    keys = read_ledger(stock.keyring, stock.repository).identities
    root = digest(stock.publisher.first_root())
    found = inspection.verify(tmp_path / "pulled", root, lambda _: keys, NOW, QUIET)
    assert (found.bundles, found.deep) == ((pushed.bundle,), True)


def test_a_push_marks_no_delivery(stock: Any, place: str) -> None:
    """What lies in a registry has reached no site: the next stick is whole."""
    stock.build(b"1")
    stock.push(place)
    assert read_ledger(stock.keyring, stock.repository).site("bristol").delivered == ()


def test_only_the_named_sites_leave_the_house(stock: Any, place: str, front: Any, tmp_path: Path) -> None:
    """Nothing of another site is in the manifest, and a pull may take fewer of those that are."""
    stock.build(b"1")
    stock.push(place, "bristol")
    with_one = json.loads(stock.client(place).manifest()[0])
    titles = [layer["annotations"]["org.opencontainers.image.title"] for layer in with_one["layers"]]
    assert not [title for title in titles if "paris" in title or "recovery" in title]
    with pytest.raises(BadInput, match="holds no site paris"):
        stock.pull(place, tmp_path / "a", sites=("paris",))
    stock.push(place, "bristol", "paris")
    assert stock.pull(place, tmp_path / "b", sites=("paris",)).sites == ("paris",)
    assert [path.name for path in (tmp_path / "b" / "sites").iterdir()] == ["paris"]


def test_a_push_again_sends_only_what_is_new(stock: Any, place: str, front: Any) -> None:
    """A second push sends the manifest alone; a new FAQ sends its small volume, index and metadata."""
    stock.build(b"1")
    first = stock.push(place)
    assert first.sent_bytes > 5_000_000
    front.reset()
    again = stock.push(place)
    assert (again.sent_bytes, again.reference) == (0, first.reference)
    assert front.up_bytes() < 10_000
    stock.build(b"2")
    front.reset()
    small = stock.push(place)
    assert small.sent_bytes < 100_000 < 5_000_000 < small.there_bytes
    assert front.up_bytes() < 110_000


def test_a_pull_again_fetches_only_what_is_new(stock: Any, place: str, front: Any, tmp_path: Path) -> None:
    """A second pull fetches the manifest alone; after a new FAQ, its small volume, index and metadata."""
    stock.build(b"1")
    stock.push(place)
    assert stock.pull(place, tmp_path / "usb").fetched_bytes > 5_000_000
    front.reset()
    assert stock.pull(place, tmp_path / "usb").fetched_bytes == 0
    assert front.down_bytes() < 10_000
    bundle = stock.build(b"2")
    stock.push(place)
    front.reset()
    fresh = stock.pull(place, tmp_path / "usb")
    assert (fresh.bundle, fresh.fetched_bytes < 100_000) == (bundle, True)
    assert front.down_bytes() < 110_000
    root = digest(stock.publisher.first_root())
    assert inspection.verify(tmp_path / "usb", root, None, NOW, QUIET).bundles[-1] == bundle


def test_a_file_is_whole_where_the_layers_are_large(stock: Any, place: str, tmp_path: Path) -> None:
    """Without parts the layers are the files themselves, as any client of artifacts writes them out."""
    stock.build(b"1")
    done = stock.push(place, cap=4 * MIB)
    assert done.layers == done.files
    assert stock.push(place, cap=MIB).layers > done.layers
    stock.pull(place, tmp_path / "usb")


def test_another_name_takes_layers_over(stock: Any, front: Any) -> None:
    """Within a registry nothing is sent that another name there has: customers share one model."""
    stock.build(b"1")
    one, other = (f"{front.host}/mount/{uuid.uuid4().hex[:12]}" for _ in range(2))
    stock.push(one)
    front.reset()
    done = stock.push(other, mount_from=one.split("/", 1)[1])
    assert done.sent_bytes == 0
    assert front.up_bytes() < 10_000


def test_what_the_builder_pruned_leaves_the_folder(stock: Any, place: str, tmp_path: Path) -> None:
    """Files of a bundle that is listed no more go, and its volumes that a later one uses stay."""
    first = stock.build(b"1")
    stock.push(place)
    stock.pull(place, tmp_path / "usb")
    stock.build(b"2")
    old = [path for path in stock.publisher.listed() if path.startswith(f"bundles/{first}/") and "/vol/" not in path]
    stock.publisher.drop_content(old)
    stock.push(place)
    stock.pull(place, tmp_path / "usb")
    assert old
    assert not [path for path in old if (tmp_path / "usb" / path).exists()]
    keys = read_ledger(stock.keyring, stock.repository).identities
    root = digest(stock.publisher.first_root())
    assert inspection.verify(tmp_path / "usb", root, lambda _: keys, NOW, QUIET).deep


def test_an_older_artifact_is_not_taken(stock: Any, place: str, tmp_path: Path) -> None:
    """A tag that was moved back is told, and the newer folder stays as it is."""
    stock.build(b"1")
    old = stock.push(place)
    stock.build(b"2")
    stock.push(place)
    stock.pull(place, tmp_path / "usb")
    before = (tmp_path / "usb/metadata/timestamp.json").read_bytes()
    moved_back = f"{place.rsplit(':', 1)[0]}@{old.reference.rsplit('@', 1)[1]}"
    with pytest.raises(TooOld, match="is older than what"):
        stock.pull(moved_back, tmp_path / "usb")
    assert (tmp_path / "usb/metadata/timestamp.json").read_bytes() == before
    assert stock.pull(moved_back, tmp_path / "empty").bundle == old.bundle


def test_a_builder_that_is_behind_does_not_push(stock: Any, place: str, tmp_path: Path) -> None:
    """The tag holds a newer state than the folder: nothing is replaced."""
    stock.build(b"1")
    client = stock.client(place)
    stock.push(place)
    data = client.manifest()[0].replace(b'"vnd.lifeboat.timestamp":"', b'"vnd.lifeboat.timestamp":"9')
    client.put_manifest(data)
    client.close()
    with pytest.raises(TooOld, match="holds timestamp 9"):
        stock.push(place)


def test_one_folder_and_one_tag_hold_one_repository(stock: Any, place: str, tmp_path: Path) -> None:
    """Another customer's repository is neither pushed over a tag nor pulled into a folder, whoever signed it."""
    stock.build(b"1")
    stock.push(place)
    stock.pull(place, tmp_path / "usb")
    other = Publisher(tmp_path / "other", stock.keyring, NOW)
    other.create()
    second = type(stock)(other, stock.keyring, stock.work)
    second.build(b"1")
    with pytest.raises(BadInput, match="holds another repository"):
        second.push(place, "paris")
    elsewhere = f"{place}-other"
    second.push(elsewhere, "paris")
    with pytest.raises(BadInput, match="holds another repository"):
        stock.pull(elsewhere, tmp_path / "usb")
    assert not (tmp_path / "usb" / ".pull").exists()


def test_what_is_not_there_is_told(stock: Any, place: str, tmp_path: Path) -> None:
    """No such tag; a folder that a builder writes."""
    with pytest.raises(SourceFailed, match="there is no oci:"):
        stock.pull(place, tmp_path / "usb")
    stock.build(b"1")
    stock.push(place)
    with stock.publisher.locked(), pytest.raises(BadInput, match="a builder writes"):
        stock.pull(place, stock.publisher.folder)


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_another_system_put_beside_the_sites_stays(stock: Any, place: str, tmp_path: Path, kind: str) -> None:
    """A file manager leaves its notes in every folder of a stick: they are none of our business, and no site."""
    stock.build(b"1")
    stock.push(place)
    usb, away = tmp_path / "usb", tmp_path / "away"
    stock.pull(place, usb)
    away.mkdir()
    (away / "own").write_text("mine")
    if kind == "file":
        (usb / "sites" / "Thumbs.db").write_text("notes")
    else:
        (usb / "sites" / "paris").symlink_to(away)
    stock.build(b"2")
    second = stock.push(place)
    assert stock.pull(place, usb).bundle == second.bundle
    assert (away / "own").read_text() == "mine"


def test_a_link_in_place_of_the_programs_is_not_followed(stock: Any, place: str, tmp_path: Path) -> None:
    """A stick that comes back may hold a link where programs lie: nothing is removed behind it."""
    stock.build(b"1")
    stock.push(place)
    usb, away = tmp_path / "usb", tmp_path / "away"
    (away / "photos").mkdir(parents=True)
    for medium in (usb, tmp_path / "copy"):
        medium.mkdir()
        (medium / "runtime").symlink_to(away)
    stock.pull(place, usb)
    copy_for_sites(stock.publisher, stock.keyring, ["bristol"], tmp_path / "copy", QUIET, now=NOW)
    assert (away / "photos").is_dir()
