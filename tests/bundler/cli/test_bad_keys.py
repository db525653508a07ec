"""Keys, passphrases, roots and cards that are not what they should be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Run = Callable[..., Result]
DIGEST = "0" * 64


def contents(folder: Path) -> dict[Path, bytes]:
    """All files but locks, which hold nothing."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\xff\xfe\n", "the passphrase file"),
        (None, "the passphrase file"),
        (b"", "the passphrase is empty"),
        (b"\nsecond line", "the passphrase is empty"),
        (b"too short\n", "9 characters, at least 12"),
    ],
)
@pytest.mark.parametrize("command", ["init", "keys passphrase"])
def test_a_new_passphrase_that_protects_nothing_is_refused(
    lifeboat: Run, tmp_path: Path, passphrase: Path, home: Path, command: str, data: bytes | None, told: str
) -> None:
    """Unreadable, empty or short: no key is made, and none is encrypted anew."""
    if data is not None:
        (tmp_path / "new").write_bytes(data)
    before = contents(home)
    if command == "init":
        done = lifeboat("init", "--name", "N", "--home", tmp_path / "fresh", "--passphrase-file", tmp_path / "new")
    else:
        words = ("--new-passphrase-file", tmp_path / "new", "--passphrase-file", passphrase)
        done = lifeboat(*command.split(), *words)
    assert done.exit_code == 3, done.stderr
    assert told in done.stderr
    assert not (tmp_path / "fresh" / "keyring").exists()
    assert contents(home) == before


def test_a_passphrase_file_that_is_no_text_opens_nothing(lifeboat: Run, tmp_path: Path, repository: Path) -> None:
    """It is the file that is wrong, and not the passphrase."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    done = lifeboat("site", "list", "--repository", repository, "--passphrase-file", tmp_path / "binary")
    assert (done.exit_code, "cannot be read" in done.stderr) == (3, True)
    (tmp_path / "binary").write_text("another passphrase")
    done = lifeboat("site", "list", "--repository", repository, "--passphrase-file", tmp_path / "binary")
    assert (done.exit_code, "does not open ledger.key" in done.stderr) == (17, True)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--adopt", "{repository}"), 2, "--adopt and --root go together"),
        (("--root", DIGEST), 2, "--adopt and --root go together"),
        (("--adopt", "{repository}", "--root", DIGEST), 11, "no root in"),
        (("--adopt", "{repository}", "--root", "12ab"), 3, "64 hexadecimal digits"),
        (("--adopt", "{repository}", "--root", ""), 3, "64 hexadecimal digits"),
        (("--adopt", "{repository}/none", "--root", DIGEST), 2, "does not exist"),
        (("--adopt", "{repository}/bundles", "--root", DIGEST), 11, "no root in"),
    ],
)
def test_a_home_is_not_rebuilt_from_what_does_not_fit(
    lifeboat: Run, tmp_path: Path, repository: Path, words: tuple[str, ...], code: int, told: str
) -> None:
    """Without the digest, with a wrong one, or from a folder that is no repository: nothing is made."""
    asked = [word.format(repository=repository) for word in words]
    done = lifeboat("init", "--name", "N", "--home", tmp_path / "fresh", *asked)
    assert done.exit_code == code, done.stderr
    assert told in done.stderr
    assert not (tmp_path / "fresh").exists()


@pytest.mark.parametrize("name", ["", "two\nlines", "x" * 31, "\x1b[31mred"])
def test_a_name_that_fits_no_card_is_refused(lifeboat: Run, tmp_path: Path, passphrase: Path, name: str) -> None:
    """Before a key is made."""
    done = lifeboat("init", "--name", name, "--home", tmp_path / "fresh", "--passphrase-file", passphrase)
    assert done.exit_code == 3, done.stderr
    assert not (tmp_path / "fresh").exists()


@pytest.mark.parametrize("typed", ["12ab", "g" * 64, "0" * 65])
def test_a_root_that_is_no_digest_is_mistyped(lifeboat: Run, medium: Path, typed: str) -> None:
    """A typing error is told apart from a medium of somebody else."""
    done = lifeboat("verify", medium, "--root", typed)
    assert (done.exit_code, "as they stand on the card" in done.stderr) == (3, True)
    assert lifeboat("verify", medium, "--root", DIGEST).exit_code == 11


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("typed", [b"", b"\xff\xfe", b"01/01 AAAA 0000\n", b"01/02 AAAA 0000\n"])
def test_lines_that_are_no_card_restore_nothing(lifeboat: Run, tmp_path: Path, passphrase: Path, typed: bytes) -> None:
    """Whatever bytes the file holds."""
    (tmp_path / "typed").write_bytes(typed)
    done = lifeboat("keys", "restore", "spare", tmp_path / "typed", "--passphrase-file", passphrase)
    assert done.exit_code == 3, done.stderr
    assert not (tmp_path / "home" / "keyring" / "spare.key").exists()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("keys", "new", "Bad Name"), 3),
        (("keys", "new", "ledger"), 3),
        (("keys", "new", "root"), 7),
        (("keys", "change", "root", "--remove", "zz"), 3),
        (("keys", "change", "root", "--threshold", "2"), 3),
        (("keys", "change", "root", "--threshold", "0"), 2),
        (("keys", "change", "everything"), 2),
        (("keys", "merge"), 2),
        (("keys", "card", "nobody"), 6),
        (("keys", "passphrase", "--new-passphrase-file", "{pass}", "--home", "{none}"), 6),
    ],
)
def test_what_cannot_be_asked_of_keys(
    lifeboat: Run, tmp_path: Path, passphrase: Path, home: Path, words: tuple[str, ...], code: int
) -> None:
    """Names, thresholds and homes that are none: told with their class, and the home stays as it was."""
    before = contents(home)
    places = {"pass": passphrase, "none": tmp_path / "none"}
    done = lifeboat(*(word.format(**places) for word in words), "--passphrase-file", passphrase)
    assert done.exit_code == code, done.stderr
    assert contents(home) == before
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("words", [("change", "root", "--add"), ("sign", "--yes"), ("merge",)])
@pytest.mark.parametrize("data", [b"", b"x", b"\xff\xfe", b"{}"])
def test_a_file_that_is_neither_key_nor_request_is_refused(
    lifeboat: Run, tmp_path: Path, passphrase: Path, home: Path, words: tuple[str, ...], data: bytes
) -> None:
    """Whatever bytes it holds; nothing is signed."""
    (tmp_path / "file").write_bytes(data)
    before = contents(home)
    done = lifeboat("keys", *words, tmp_path / "file", "--passphrase-file", passphrase)
    assert (done.exit_code, "file is no" in done.stderr) == (3, True), done.stderr
    assert contents(home) == before
    assert (tmp_path / "file").read_bytes() == data


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("keyring/msp.json", ("keys", "card", "root")),
        ("keyring/msp.json", ("site", "add", "paris", "--repository", "{repository}")),
        ("roots/1.root.json", ("keys", "list")),
        ("roots/1.root.json", ("policy", "show", "--repository", "{repository}")),
        ("roots/1.root.json", ("verify", "{repository}")),
        ("keyring/root.pub", ("keys", "list")),
        ("keyring/ledger.key", ("site", "authorize", "bristol", "--repository", "{repository}")),
    ],
)
def test_a_damaged_file_of_the_home_is_named(
    lifeboat: Run, passphrase: Path, home: Path, repository: Path, name: str, words: tuple[str, ...]
) -> None:
    """It is the home that wants mending: no medium is to be copied again."""
    (home / name).write_bytes(b"{")
    keys = ("--passphrase-file", passphrase) if words[1] in ("card", "add", "authorize") else ()
    done = lifeboat(*(word.format(repository=repository) for word in words), *keys)
    assert done.exit_code == 3, done.stderr
    assert name.split("/")[1] in done.stderr
