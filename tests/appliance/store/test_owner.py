"""Root's work on a state that belongs to another user, who may have put links where root is about to write."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from appliance.store.layout import StateLayout
from appliance.store.owner import as_owner, as_root
from bundler.files import exclusive, write_atomic

OWNER = 65534
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can work for somebody else")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """An empty state of another user, in a folder of root's that everybody may enter."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    state = tmp_path / "state"
    StateLayout(state).make()
    for path in (state, *state.rglob("*")):
        os.chown(path, OWNER, OWNER)
    return state


def test_no_link_leads_root_out_of_the_state(state: Path, tmp_path: Path) -> None:
    """Neither a file, nor a lock, nor a mode of a folder that is root's."""
    foreign = tmp_path / "foreign"
    foreign.mkdir(mode=0o755)
    (state / "run").rmdir()
    (state / "run").symlink_to(foreign)
    with as_owner(state):
        with pytest.raises(PermissionError):
            write_atomic(state / "run" / "url", b"x")
        with pytest.raises(PermissionError), exclusive(state / "run" / "install.lock", ""):
            pass
        with pytest.raises(PermissionError):
            StateLayout(state).make()
    assert list(foreign.iterdir()) == []
    assert foreign.stat().st_mode & 0o777 == 0o755


def test_what_is_written_belongs_to_the_owner(state: Path) -> None:
    """So that the service can read it."""
    with as_owner(state):
        write_atomic(state / "versions" / "1" / "x", b"x")
    found = [path.stat() for path in (state / "versions" / "1", state / "versions" / "1" / "x")]
    assert {(one.st_uid, one.st_gid) for one in found} == {(OWNER, OWNER)}


def test_root_still_reads_what_only_root_may(state: Path, tmp_path: Path) -> None:
    """A stick that a desktop mounted for one person, in threads that are started later, too."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "x").write_bytes(b"x")
    (closed / "x").chmod(0o600)
    found: list[bytes] = []
    with as_owner(state):
        with as_root():
            pass
        reader = threading.Thread(target=lambda: found.append((closed / "x").read_bytes()))
        reader.start()
        reader.join()
        assert (closed / "x").read_bytes() == b"x"
    assert found == [b"x"]


def test_root_comes_back(state: Path, tmp_path: Path) -> None:
    """Within the block by `as_root`, and after it whatever happened."""
    before = os.getresuid(), os.getresgid(), os.getgroups()
    with as_owner(state):
        with as_root():
            (tmp_path / "mine").mkdir(mode=0o700)
        assert (os.geteuid(), os.getegid(), os.getgroups()) == (OWNER, OWNER, [OWNER])
    with pytest.raises(ZeroDivisionError), as_owner(state), as_root():
        _ = 1 / 0
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before
    assert (tmp_path / "mine").stat().st_uid == 0


def test_a_state_of_root_or_none_changes_nothing(tmp_path: Path) -> None:
    """The first install makes the state; a box whose service is root is its own affair."""
    for folder in (tmp_path, tmp_path / "none"):
        with as_owner(folder):
            assert os.geteuid() == 0
