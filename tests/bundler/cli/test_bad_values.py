"""Media, sites and policies that are asked for with what cannot be: each ends with its code, and nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Run = Callable[..., Result]


def contents(folder: Path) -> dict[Path, bytes]:
    """All files but locks, which hold nothing."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"format":1}',
        b'{"format":1,"left_out":"all"}',
        b'{"format":1,"left_out":[1]}',
        b'{"format":"1","left_out":[]}',
        b'{"format":1,"left_out":[],"more":1}',
        b'{"format":1,"left_out":[]}\n',
        b'{"format": 1, "left_out": []}',
        b'{"format":1,"left_out":[],"left_out":[]}',
        b'{"format":2,"left_out":[]}',
        b" " * 5_000_001,
    ],
)
@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_a_delivery_that_we_do_not_write_is_a_bad_medium(
    lifeboat: Run, medium: Path, command: str, data: bytes
) -> None:
    """Nobody believes it halfway: the medium is to be copied again."""
    assert lifeboat(command, medium).exit_code == 0
    (medium / "delivery.json").write_bytes(data)
    done = lifeboat(command, medium)
    assert done.exit_code == (18 if b'"format":2' in data else 14), done.stderr
    assert "delivery.json" in done.stderr


def test_a_delivery_that_is_a_link_or_a_folder_is_not_followed(lifeboat: Run, medium: Path) -> None:
    """A medium may hold anything under that name."""
    path = medium / "delivery.json"
    path.rename(medium / "elsewhere")
    path.symlink_to("elsewhere")
    assert lifeboat("verify", medium).exit_code == 14
    path.unlink()
    path.mkdir()
    assert lifeboat("verify", medium).exit_code == 14


def test_a_delivery_hides_no_file_of_the_medium(lifeboat: Run, medium: Path) -> None:
    """It is not signed: a file that is named as left out and lies there is checked all the same."""
    index = next(medium.glob("bundles/*/index.age"))
    name = index.relative_to(medium).as_posix()
    (medium / "delivery.json").write_text(f'{{"format":1,"left_out":["../x","{name}"]}}')
    assert lifeboat("verify", medium).exit_code == 0
    index.write_bytes(b"x")
    done = lifeboat("verify", medium)
    assert (done.exit_code, "index.age is not what was signed" in done.stderr) == (14, True), done.stderr


@pytest.mark.parametrize(
    ("value", "code", "told"),
    [
        ("hosts=a b", 3, "'a b' in hosts is no host name"),
        ("hosts=a.example,,b.example", 3, "'' in hosts is no host name"),
        ("hosts=https://a.example", 3, "in hosts is no host name"),
        ("hosts=*.example", 3, "in hosts is no host name"),
        ("hosts=-a", 3, "in hosts is no host name"),
        ("hosts=a.example:443", 3, "in hosts is no host name"),
        ("hosts=" + "a" * 255, 3, "in hosts is no host name"),
        ("hosts= ", 3, "in hosts is no host name"),
        ("hosts=a\nb", 3, "printable characters in one line"),
        ("handoff=Ring\n112", 3, "printable characters in one line"),
        ("handoff=\x1b[31mred", 3, "printable characters in one line"),
        ("handoff=" + "x" * 2_001, 3, "at most 2,000"),
        ("handoff_url=ftp://x.example", 3, "no http or https URL"),
        ("handoff_url=http://x.example", 3, "must be https"),
        ("handoff_to=desk", 3, "'desk' in handoff_to is no plain mail address"),
        ("colour=red", 3, "known are handoff, handoff_to, handoff_url, hosts"),
        ("=red", 3, "known are handoff, handoff_to, handoff_url, hosts"),
        ("hosts", 2, "'hosts' is not NAME=VALUE"),
    ],
)
def test_a_setting_that_a_box_could_not_use_is_refused(
    lifeboat: Run, passphrase: Path, repository: Path, value: str, code: int, told: str
) -> None:
    """Before it is signed or noted in the ledger, a right one beside it included."""
    before = contents(repository.parent)
    words = ("--repository", repository, "--passphrase-file", passphrase)
    done = lifeboat("site", "set", "bristol", "handoff=Ring 113", value, *words)
    assert done.exit_code == code, done.stderr
    assert told in done.stderr
    assert contents(repository.parent) == before


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ((), 2, "name what is to be changed"),
        (("--min-sequence", "0"), 2, "not in the range"),
        (("--min-sequence", "many"), 2, "not a valid integer"),
        (("--revoke", "1-0009-0123abcd"), 3, "lists no bundle 1-0009-0123abcd"),
        (("--revoke", "../x"), 3, "lists no bundle ../x"),
        (("--forbid", "https://nobody.example"), 3, "does not allow https://nobody.example:443"),
        (("--allow", ""), 3, "is no http or https URL"),
        (("--allow", "cloud.example"), 3, "'cloud.example' is no http or https URL"),
        (("--allow", "ftp://cloud.example"), 3, "'ftp://cloud.example' is no http or https URL"),
        (("--allow", "https://user@cloud.example"), 3, "'https://***@cloud.example' is no"),
        (("--allow", "https://cloud.example:99999"), 3, "'https://cloud.example:99999' is no"),
        (("--allow", "https://cloud.example:0"), 3, "names port 0"),
        (("--allow", "http://[::1"), 3, "'http://[::1' is no"),
        (("--allow", "https://good.example", "--forbid", "https://*"), 3, "'https://*' is no"),
    ],
)
def test_a_policy_that_makes_no_sense_is_not_signed(
    lifeboat: Run, passphrase: Path, repository: Path, words: tuple[str, ...], code: int, told: str
) -> None:
    """What was typed is told; a right change beside a wrong one is not made either."""
    before = contents(repository.parent)
    done = lifeboat("policy", "change", *words, "--repository", repository, "--passphrase-file", passphrase)
    assert done.exit_code == code, done.stderr
    assert told in done.stderr
    assert contents(repository.parent) == before


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("copy", "{repository}", "{new}", "--site", "paris"), 3, "no site 'paris'"),
        (("copy", "{repository}", "{new}", "--site", "../bristol"), 3, "no site '../bristol'"),
        (("copy", "{repository}", "{new}"), 2, "--site"),
        (("copy", "{repository}", "{repository}/bundles/x", "--site", "bristol"), 3, "lie in each other"),
        (("copy", "{new}", "{repository}", "--site", "bristol"), 2, "does not exist"),
        (("site", "add", "bristol", "--no-recovery", "--repository", "{repository}"), 7, "bristol exists"),
        (("site", "add", "Bad Name", "--repository", "{new}"), 3, "may hold lower-case"),
        (("site", "add", "../x", "--repository", "{new}"), 3, "may hold lower-case"),
        (("site", "add", "x", "--post-quantum", "--repository", "{repository}"), 3, "keeps its suite"),
        (("site", "remove", "paris", "--repository", "{repository}"), 3, "no site 'paris'"),
        (("site", "authorize", "paris", "--repository", "{repository}"), 3, "no site 'paris'"),
        (("site", "set", "paris", "hosts=a", "--repository", "{repository}"), 3, "no site 'paris'"),
        (("diff", "{repository}"), 3, "fewer than two bundles"),
        (("diff", "{repository}", "a", "b"), 3, "lists no bundle a, b"),
        (("export", "{repository}", "{new}", "--bundle", "x"), 3, "lists no bundle x"),
        (("export", "{repository}", "{new}", "none"), 3, "the bundle holds no none"),
        (("policy", "resign", "--repository", "{empty}"), 6, "holds no repository"),
    ],
)
def test_what_is_not_there_is_named(
    lifeboat: Run, passphrase: Path, repository: Path, words: tuple[str, ...], code: int, told: str
) -> None:
    """Sites, bundles, assets and repositories: with its code, and nothing is made or changed."""
    folder = repository.parent
    (folder / "empty").mkdir()
    before = contents(folder)
    places = {"repository": repository, "new": folder / "new", "empty": folder / "empty"}
    done = lifeboat(*(word.format(**places) for word in words), "--passphrase-file", passphrase)
    assert done.exit_code == code, done.stderr
    assert told in done.stderr
    assert contents(folder) == before
    assert not (folder / "new").exists()
