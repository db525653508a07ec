"""A misspelt place becomes neither a tree of folders nor, in silence, a new repository."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Run = Callable[..., Result]
PROFILE = """
[bundle]
name = "x"
title = "X"
recovery = false
[[upstream]]
name = "u"
base_url = "https://cloud.example/v1"
model = "m"
"""


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    (tmp_path / "p.toml").write_text(PROFILE)
    return tmp_path / "p.toml"


@pytest.mark.parametrize(
    "words",
    [
        ("build", "{profile}", "--yes", "--repository", "{place}"),
        ("site", "add", "paris", "--repository", "{place}"),
        ("copy", "{repository}", "{place}", "--site", "bristol"),
        ("copy", "oci:127.0.0.1:9/a:b", "{place}"),
    ],
)
def test_one_folder_is_made_and_not_two(
    lifeboat: Run, tmp_path: Path, profile: Path, repository: Path, passphrase: Path, words: tuple[str, ...]
) -> None:
    """Where the folder above is not there, the path is likely wrong: told first, and nothing is made."""
    places = {"profile": profile, "repository": repository, "place": tmp_path / "custmers" / "acme"}
    done = lifeboat(*(word.format(**places) for word in words), "--passphrase-file", passphrase)
    assert done.exit_code == 3
    assert f"cannot be made at {places['place']}: {tmp_path}/custmers is no folder" in done.stderr
    assert f"mkdir -p {tmp_path}/custmers" in done.stderr
    assert not (tmp_path / "custmers").exists()


@pytest.mark.usefixtures("home")
def test_a_build_says_that_it_began_a_repository(
    lifeboat: Run, tmp_path: Path, profile: Path, passphrase: Path
) -> None:
    """Before it asks, and when it is made; the next build into it says nothing of the kind."""
    words = ("build", profile, "--repository", tmp_path / "new", "--passphrase-file", passphrase)
    asked = lifeboat(*words)
    assert f"there is no repository at {tmp_path}/new: this build makes a new one" in asked.stderr
    assert "made a new repository" not in asked.stderr
    done = lifeboat(*words, "--yes")
    assert (done.exit_code, f"made a new repository at {tmp_path}/new" in done.stderr) == (0, True), done.stderr
    again = lifeboat(*words, "--yes")
    assert (again.exit_code, "new repository" in again.stderr, "makes a new" in again.stderr) == (0, False, False)


@pytest.mark.usefixtures("home")
def test_a_site_of_a_new_repository_says_so(lifeboat: Run, tmp_path: Path, passphrase: Path) -> None:
    """`site add` begins one, too."""
    words = ("--no-recovery", "--repository", tmp_path / "new", "--passphrase-file", passphrase)
    done = lifeboat("site", "add", "paris", *words)
    assert (done.exit_code, f"made a new repository at {tmp_path}/new" in done.stderr) == (0, True), done.stderr
    again = lifeboat("site", "add", "york", *words)
    assert (again.exit_code, "new repository" in again.stderr) == (0, False), again.stderr


def test_a_copy_says_where_it_wrote(lifeboat: Run, tmp_path: Path, repository: Path, passphrase: Path) -> None:
    """A new folder is what a copy usually goes to."""
    done = lifeboat("copy", repository, tmp_path / "usb", "--site", "bristol", "--passphrase-file", passphrase)
    assert done.exit_code == 0, done.stderr
    assert f"written to {tmp_path}/usb" in done.stdout
