"""`site add --card`: a site whose card cannot be written is not made."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from click.testing import Result

from bundler.files import FileLayer

Run = Callable[..., Result]


def add(lifeboat: Run, repository: Path, card: Path) -> Result:
    keys = ("--passphrase-file", repository.parent / "passphrase")
    return lifeboat("site", "add", "paris", "--repository", repository, "--card", card, *keys)


@pytest.mark.usefixtures("passphrase", "home")
@pytest.mark.parametrize("card", ["file", "none/card", "file/card"])
def test_a_card_that_has_no_place_is_told_first(lifeboat: Run, tmp_path: Path, card: str) -> None:
    """A file that is there is not written over, no folder is made for it, and there is no repository either."""
    (tmp_path / "file").write_text("something else")
    done = add(lifeboat, tmp_path / "new", tmp_path / card)
    assert done.exit_code == 3
    assert "the card cannot be written" in done.stderr
    assert "CARD  " not in done.stdout
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "none").exists()
    assert (tmp_path / "file").read_text() == "something else"


@pytest.mark.usefixtures("passphrase")
def test_a_card_that_may_not_be_written_makes_no_site(
    lifeboat: Run, tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write anywhere still meets a read-only file system: opening the file tells, not the mode bits."""
    opened = FileLayer.open_new

    def read_only(layer: FileLayer, path: Path, mode: int) -> BinaryIO:
        if path.parent.name == "cdrom":
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return opened(layer, path, mode)

    monkeypatch.setattr(FileLayer, "open_new", read_only)
    (tmp_path / "cdrom").mkdir()
    done = add(lifeboat, repository, tmp_path / "cdrom" / "card")
    assert done.exit_code == 3
    assert "Read-only file system" in done.stderr
    assert not (repository / "sites" / "paris").exists()


@pytest.mark.usefixtures("passphrase")
def test_a_card_is_written_for_its_owner_alone(lifeboat: Run, tmp_path: Path, repository: Path) -> None:
    """The file holds what is printed; where the site cannot be made, no file is left."""
    done = add(lifeboat, repository, tmp_path / "card")
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "card").read_text().strip() == done.stdout.strip()
    assert (tmp_path / "card").stat().st_mode & 0o777 == 0o600
    again = add(lifeboat, repository, tmp_path / "second")
    assert again.exit_code == 7
    assert not list(tmp_path.glob("*second*"))
