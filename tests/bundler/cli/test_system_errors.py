"""What the operating system refuses, and questions that nobody answers: each ends with its own code."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from click.testing import Result

from bundler.files import FileLayer, write_atomic
from bundler.format.errors import BadInput, NoSpace, SystemFailed
from bundler.terminal import EXIT_INTERRUPTED, disk_error, exit_code

Run = Callable[..., Result]
REFUSALS = [
    (errno.ENOSPC, NoSpace, 15),
    (errno.EDQUOT, NoSpace, 15),
    (errno.EACCES, BadInput, 3),
    (errno.EPERM, BadInput, 3),
    (errno.EROFS, BadInput, 3),
    (errno.ENOTDIR, BadInput, 3),
    (errno.EISDIR, BadInput, 3),
    (errno.ENAMETOOLONG, BadInput, 3),
    (errno.EIO, SystemFailed, 19),
    (errno.ENODEV, SystemFailed, 19),
    (errno.ESTALE, SystemFailed, 19),
    (errno.EMFILE, SystemFailed, 19),
]
IDS = [errno.errorcode[number] for number, _, _ in REFUSALS]


@pytest.mark.parametrize(("number", "kind", "code"), REFUSALS, ids=IDS)
def test_each_refusal_has_its_class(number: int, kind: type[Exception], code: int) -> None:
    """The path and the system's own word are told, and a way out."""
    told = disk_error(OSError(number, os.strerror(number), "/media/usb/x"))
    assert type(told) is kind
    assert exit_code(told) == code
    assert told.fact.startswith("/media/usb/x: ")
    assert told.hint


def test_a_full_disk_is_told_with_its_place_and_what_is_left(tmp_path: Path) -> None:
    """The system names no file where a write fails, only where an open does."""

    class Full(FileLayer):
        def open_new(self, path: Path, mode: int) -> BinaryIO:
            path.touch(mode)
            return open("/dev/full", "wb", buffering=0)  # noqa: PTH123 - closed by `staged`

    with pytest.raises(OSError, match="No space left") as refused:
        write_atomic(tmp_path / "new" / "file", b"1", layer=Full())
    told = disk_error(refused.value)
    assert type(told) is NoSpace
    start = f"{tmp_path}/new/file: the disk is full; {tmp_path}/new has "
    assert re.fullmatch(re.escape(start) + r"[0-9.]+ [kMGT]?B free", told.fact)
    assert disk_error(OSError(errno.ENOSPC, "full")).fact == "the disk is full"
    assert "quota" in disk_error(OSError(errno.EDQUOT, "full")).fact


def test_a_refusal_without_words_is_told_as_it_is() -> None:
    """Some errors carry neither number nor path."""
    assert disk_error(OSError("the share went away")).fact == "the share went away"


@pytest.mark.parametrize(("number", "kind", "code"), REFUSALS, ids=IDS)
def test_a_refusal_during_a_command_ends_with_its_code(
    lifeboat: Run,
    passphrase: Path,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    kind: type[Exception],
    code: int,
) -> None:
    """Words instead of a traceback, and the repository is as it was."""
    before = {path: path.read_bytes() for path in repository.rglob("*.json")}

    def refuse(_: FileLayer, path: Path, __: int) -> BinaryIO:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(FileLayer, "open_new", refuse)
    done = lifeboat("policy", "resign", "--repository", repository, "--passphrase-file", passphrase, "--json")
    assert done.exit_code == code, done.stderr
    assert f'"exit_code": {code}' in done.stdout
    assert "hint: " in done.stderr
    assert {path: path.read_bytes() for path in repository.rglob("*.json")} == before


@pytest.mark.usefixtures("home")
def test_a_place_below_a_file_is_the_operator_s(lifeboat: Run, tmp_path: Path, passphrase: Path) -> None:
    """Nothing is wrong with the disk where a path leads through a file."""
    (tmp_path / "file").touch()
    words = ("site", "add", "x", "--repository", tmp_path / "file" / "new", "--passphrase-file", passphrase)
    done = lifeboat(*words)
    assert (done.exit_code, "name another place" in done.stderr) == (3, True), done.stderr


@pytest.mark.parametrize("answers", ["", "n\n", "what?\n"])
def test_a_question_that_is_not_answered_with_yes_changes_nothing(
    lifeboat: Run, tmp_path: Path, repository: Path, passphrase: Path, answers: str
) -> None:
    """A no, the end of the input, and words that are neither: nothing is signed."""
    request = tmp_path / "request.json"
    assert lifeboat("keys", "request", request, "--repository", repository).exit_code == 0
    before = request.read_bytes()
    done = lifeboat("keys", "sign", request, "--passphrase-file", passphrase, answers=answers)
    assert done.exit_code == EXIT_INTERRUPTED == 130
    assert "a question was not answered" in done.stderr
    assert request.read_bytes() == before
    assert lifeboat("keys", "sign", request, "--passphrase-file", passphrase, answers="y\n").exit_code == 0


def test_a_build_that_nobody_agrees_to_makes_no_repository(
    lifeboat: Run, tmp_path: Path, home: Path, passphrase: Path
) -> None:
    """The plan is shown, and without a yes nothing is made of it."""
    profile = tmp_path / "p.toml"
    upstream = '[[upstream]]\nname = "u"\nbase_url = "https://cloud.example/v1"\nmodel = "m"\n'
    profile.write_text(f'[bundle]\nname = "x"\ntitle = "X"\n{upstream}')
    done = lifeboat("build", profile, "--repository", home / "new", "--passphrase-file", passphrase)
    assert done.exit_code == 130
    assert "total 0 B" in done.stderr
    assert not (home / "new" / "metadata").exists()


def test_a_passphrase_that_nobody_can_type_is_asked_for_in_vain(repository: Path) -> None:
    """A job without a terminal ends at once, with a word on --passphrase-file; nothing waits for ever."""
    words = ("site", "list", "--repository", repository, "--home", repository.parent / "home")
    done = subprocess.run(
        [sys.executable, "-m", "bundler", *map(str, words)],
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # else the question goes to the terminal of whoever runs the tests
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 130, done.stderr
    assert "--passphrase-file" in done.stderr


def test_two_passphrases_that_differ_make_no_keyring(lifeboat: Run, tmp_path: Path) -> None:
    """A typing error at `init` would lose every key: it asks twice, and ends where nobody agrees with themselves."""
    done = lifeboat("init", "--name", "N", answers="correct horse\ncorrect house\n")
    assert done.exit_code == 130
    assert not (tmp_path / "home").exists()
