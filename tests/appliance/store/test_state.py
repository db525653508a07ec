"""The box's state on its own disk: sealed secrets, MACed versions, one link."""

from pathlib import Path

import pytest

from appliance.store import current, versions
from appliance.store.layout import StateLayout
from appliance.store.seal import Seal, SiteSecrets
from bundler.files import DISK
from bundler.format.errors import BadBundle, BadInput, NotReady

SECRETS = SiteSecrets("bristol", "msp", "repo", "a" * 64, "AGE-SECRET-KEY-1", "b" * 64, "c" * 64)
VERSION = versions.Version(1, "1-0001-0123abcd", "bundles/x/bundle.json", "d" * 64, "now", "now", (), ("ok",), True)


@pytest.fixture
def layout(tmp_path: Path) -> StateLayout:
    made = StateLayout(tmp_path / "state")
    made.make()
    return made


def test_secrets_are_sealed(layout: StateLayout) -> None:
    """They come back equal, no file holds them in plain text, and none is open to other users."""
    seal = Seal(layout.keys)
    with pytest.raises(NotReady):
        seal.open()
    seal.store(SECRETS)
    assert seal.open() == SECRETS
    assert "AGE-SECRET" not in repr(SECRETS)
    for path in seal.folder.iterdir():
        assert SECRETS.version_secret.encode() not in path.read_bytes()
        assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["site.age", "machine.key"])
def test_a_changed_seal_is_refused(layout: StateLayout, name: str) -> None:
    """Neither the sealed file nor its slot may change unnoticed."""
    seal = Seal(layout.keys)
    seal.store(SECRETS)
    data = bytearray((seal.folder / name).read_bytes())
    data[-2] ^= 1
    (seal.folder / name).write_bytes(data)
    with pytest.raises(BadBundle):
        Seal(layout.keys).open()


def test_a_version_is_read_back_and_switched_by_one_link(layout: StateLayout) -> None:
    """Nothing serves before activation; then the link says which."""
    with pytest.raises(NotReady):
        versions.read_current(layout, SECRETS)
    versions.write_version(layout, SECRETS, VERSION, b"keys", DISK)
    assert current.current_number(layout) is None
    current.activate(layout, 1)
    assert versions.read_current(layout, SECRETS) == VERSION
    assert versions.next_number(layout) == 2


def test_a_changed_version_record_is_refused(layout: StateLayout) -> None:
    """Who writes to the disk cannot point the box at another bundle or widen its egress."""
    versions.write_version(layout, SECRETS, VERSION, b"keys", DISK)
    path = layout.version(1) / "version.json"
    path.write_bytes(path.read_bytes().replace(b"1-0001", b"1-0002"))
    with pytest.raises(BadBundle, match="changed on this disk"):
        versions.read_version(layout, SECRETS, 1)


def test_a_state_too_deep_for_sockets_is_refused(tmp_path: Path) -> None:
    """It is told before anything is made, not by an engine that cannot start."""
    deep = tmp_path / ("x" * 100)
    with pytest.raises(BadInput, match="too long for Unix sockets"):
        StateLayout(deep).make()
    assert not deep.exists()
