from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.format import paths
from bundler.format.errors import BadBundle


@pytest.mark.parametrize("path", ["bundles/1-0001-ab/vol/0001.age", "a", "A_b-c+d.txt"])
def test_plain_paths_pass(path: str) -> None:
    """What a repository holds is allowed."""
    assert paths.check(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "../x",
        "a/../b",
        "a//b",
        "a/",
        ".hidden",
        "a\\b",
        "a\x00b",
        "a b",
        "ü",
        "con",
        "aux.txt",
        "a.",
        "x" * 600,
        "/".join("a" * 20),
        "C:x",
        "a/.git/b",
        "-rf",
    ],
)
def test_dangerous_paths_are_refused(path: str) -> None:
    """Nothing absolute, upward, hidden, reserved or outside portable ASCII."""
    with pytest.raises(BadBundle):
        paths.check(path)


def test_paths_that_fold_together_are_refused() -> None:
    """A file system that ignores case would write one over the other."""
    with pytest.raises(BadBundle, match="collide"):
        paths.check_all(["vol/A", "vol/a"])


def test_a_file_is_not_a_folder_of_another() -> None:
    """`a` and `a/b` cannot both be files."""
    with pytest.raises(BadBundle, match="inside another"):
        paths.check_all(["a/b", "a"])


def test_links_on_the_way_are_refused(tmp_path: Path) -> None:
    """A link inside the repository must not lead out of it."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(BadBundle, match="symbolic link"):
        paths.inside(tmp_path, "link/file")


@given(st.text(max_size=60))
def test_what_passes_stays_inside(text: str) -> None:
    """Whatever passes names a place under the root."""
    try:
        paths.check(text)
    except BadBundle:
        return
    assert (Path("/root") / text).resolve().is_relative_to("/root")
