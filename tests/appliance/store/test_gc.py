"""What is removed after a switch: all that no kept version reaches, and nothing else."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.store import current, gc, versions
from appliance.store.current import GivenUp
from appliance.store.layout import StateLayout
from appliance.store.seal import SiteSecrets
from bundler.files import DISK
from bundler.format import age
from bundler.format.errors import BadBundle
from bundler.format.manifest import Descriptor, FileDigest, Volume, encode_descriptor

SECRETS = SiteSecrets("bristol", "msp", "repo", "a" * 64, "AGE-SECRET-KEY-1", "b" * 64, "c" * 64)
WHY = GivenUp("refused", "it does not answer", "2026-11-21T00:00:00+00:00")


@dataclass
class Shelf:
    """A state that holds bundles of two volumes each: one of their own, one that all share."""

    layout: StateLayout

    def add(self, number: int) -> None:
        bundle = f"1-{number:04d}-0123abcd"
        volumes = tuple(self._file(f"bundles/{owner}/vol/0001.age") for owner in ("1-0001-0123abcd", bundle))
        index = self._file(f"bundles/{bundle}/index.age")
        made, recipient = "2026-11-21T00:00:00+00:00", str(age.X25519Identity.generate().recipient)
        parts = tuple(
            Volume(volume.path, volume.length_bytes, volume.sha256, recipient) for volume in dict.fromkeys(volumes)
        )
        descriptor = Descriptor(1, age.SUITES[0], "a" * 32, bundle, 1, number, made, recipient, index, parts)
        path = f"bundles/{bundle}/bundle.json"
        data = encode_descriptor(descriptor)
        (self.layout.repository / path).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        version = versions.Version(number, bundle, path, digest, made, made, (), (), True)
        versions.write_version(self.layout, SECRETS, version, b"keys", DISK)

    def _file(self, name: str) -> FileDigest:
        path = self.layout.repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
        return FileDigest(name, len(name), hashlib.sha256(name.encode()).hexdigest())

    def bundles(self) -> list[str]:
        return sorted(path.name for path in (self.layout.repository / "bundles").iterdir())


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Four versions, the fourth of which serves."""
    layout = StateLayout(tmp_path / "state")
    layout.make()
    made = Shelf(layout)
    for number in (1, 2, 3, 4):
        made.add(number)
    current.activate(layout, 4)
    return made


def test_the_serving_version_and_the_one_before_are_kept(shelf: Shelf) -> None:
    """A volume of an old bundle that a kept one uses stays; the old bundle's other files go."""
    found = gc.collect(shelf.layout, SECRETS)
    assert found.versions == (1, 2)
    assert shelf.bundles() == ["1-0001-0123abcd", "1-0003-0123abcd", "1-0004-0123abcd"]
    assert [path.name for path in (shelf.layout.repository / "bundles" / "1-0001-0123abcd").rglob("*")] == [
        "vol",
        "0001.age",
    ]
    assert found.bytes > 0
    assert gc.collect(shelf.layout, SECRETS) == gc.Collected(0, 0, ())


def test_what_waits_and_what_was_refused_lately_stay(shelf: Shelf) -> None:
    """A newer version's reason is still news; its volumes are not needed."""
    current.activate(shelf.layout, 2)
    current.give_up(shelf.layout, 3, WHY)
    current.propose(shelf.layout, 4)
    assert gc.collect(shelf.layout, SECRETS).versions == ()
    assert shelf.bundles() == ["1-0001-0123abcd", "1-0002-0123abcd", "1-0004-0123abcd"]
    assert current.given_up(shelf.layout, 3) == WHY


def test_nothing_goes_where_a_needed_record_was_changed(shelf: Shelf) -> None:
    """What it names is not known any more, and guessing would delete what serves."""
    record = shelf.layout.version(3) / "version.json"
    record.write_bytes(record.read_bytes().replace(b"0003", b"0002"))
    before = shelf.bundles()
    with pytest.raises(BadBundle):
        gc.collect(shelf.layout, SECRETS)
    assert shelf.bundles() == before


def test_an_empty_box_keeps_what_an_install_has_copied(tmp_path: Path) -> None:
    """Where nothing serves yet, nothing is known to be needless."""
    layout = StateLayout(tmp_path / "state")
    layout.make()
    (layout.repository / "volume").write_bytes(b"half")
    assert gc.collect(layout, SECRETS) == gc.Collected(0, 0, ())
    assert (layout.repository / "volume").exists()
