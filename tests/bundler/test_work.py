"""The builder's work folder and cache: closed to others, one a build, and gone after it, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bundler.format.errors import BadInput
from bundler.work import private_cache, work_folder


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_it_is_closed_to_others_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """The folder, the one above it, and the cache; one that was open is closed."""
    (tmp_path / "home" / "cache").mkdir(parents=True, mode=0o777)
    old = os.umask(umask)
    try:
        with work_folder(tmp_path / "home") as work:
            assert mode(work) == mode(work.parent) == 0o700
            assert mode(private_cache(tmp_path / "home")) == 0o700
    finally:
        os.umask(old)
    assert list((tmp_path / "home" / "work").iterdir()) == []


def test_two_builds_have_one_each(tmp_path: Path) -> None:
    """Neither sweeps the other's while it runs."""
    with work_folder(tmp_path) as one:
        (one / "weights").write_bytes(b"1")
        with work_folder(tmp_path) as two:
            assert one != two
            assert list(two.iterdir()) == []
        assert (one / "weights").exists()
        assert not two.exists()
    assert not one.exists()


def test_a_failure_and_a_full_disk_leave_nothing(tmp_path: Path) -> None:
    """The kernel's own words for a full disk come through, and the folder is gone."""

    def fill() -> None:
        with work_folder(tmp_path) as work, Path("/dev/full").open("wb", buffering=0) as full:
            (work / "weights").write_bytes(b"1")
            full.write(b"2")

    with pytest.raises(OSError, match="No space left"):
        fill()
    assert list((tmp_path / "work").iterdir()) == []


def test_what_a_kill_left_is_swept_by_the_next_build(tmp_path: Path) -> None:
    """A folder whose process is gone is nobody's."""
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom bundler.work import work_folder\n"
        "with work_folder(Path(sys.argv[1])) as work:\n"
        "    (work / 'weights').write_bytes(b'1')\n    print(work, flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        process.send_signal(signal.SIGKILL)
    assert (left / "weights").exists()
    with work_folder(tmp_path) as work:
        assert not left.exists()
        assert list(work.parent.iterdir()) == [work]


@pytest.mark.parametrize("kind", ["link", "dangling", "file"])
def test_a_link_in_its_place_is_refused(tmp_path: Path, kind: str) -> None:
    """What a build unpacks would lie where nobody looks; and what the link points to is not touched."""
    (tmp_path / "elsewhere").mkdir(mode=0o755)
    (tmp_path / "home").mkdir()
    if kind == "file":
        (tmp_path / "home" / "work").write_bytes(b"")
    else:
        (tmp_path / "home" / "work").symlink_to(tmp_path / ("elsewhere" if kind == "link" else "nowhere"))
    with pytest.raises(BadInput, match="a link or a file"), work_folder(tmp_path / "home"):
        pass
    assert mode(tmp_path / "elsewhere") == 0o755
    assert not (tmp_path / "nowhere").exists()
