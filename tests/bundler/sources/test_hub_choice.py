"""Which files of a repository a source means, and what of a hub's listing is believed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bundler.format.errors import BadInput, SourceFailed
from bundler.sources.hub_choice import choose, matches
from bundler.sources.hub_listing import card_licence, make_listing
from bundler.sources.hub_settings import hub_settings
from bundler.sources.source import HubSource

COMMIT = "1" * 40


def _listing(*paths: str) -> Any:
    return make_listing("org/name", COMMIT, "mit", ((path, 1, "a" * 64, None) for path in paths))


def _chosen(paths: tuple[str, ...], path: str) -> list[str]:
    return [entry.path for entry in choose(_listing(*paths), HubSource("org/name", "main", path)).entries]


SPLIT = tuple(f"Q4/big-{number:05d}-of-00003.gguf" for number in (1, 2, 3))


@pytest.mark.parametrize(
    ("paths", "asked", "chosen"),
    [
        (("a.gguf", "b.gguf"), "b.gguf", ["b.gguf"]),
        (("m.Q4_K_M.gguf", "m.Q8_0.gguf", "README.md"), "*Q4_K_M*.gguf", ["m.Q4_K_M.gguf"]),
        (("x/m.gguf", "m.gguf"), "*.gguf", ["m.gguf"]),
        (("x/y/m.gguf", "n.txt"), "**/*.gguf", ["x/y/m.gguf"]),
        (("a[1].gguf", "a1.gguf"), "a[1].gguf", ["a[1].gguf"]),
        ((*SPLIT, "Q8/other.gguf"), "Q4/*.gguf", list(SPLIT)),
        ((*reversed(SPLIT), "Q8/other.gguf"), SPLIT[1], list(SPLIT)),
        (SPLIT, "**/big-00001-of-*.gguf", list(SPLIT)),
        (("tokenizer.json",), "tokenizer.json", ["tokenizer.json"]),
    ],
)
def test_a_source_means_one_model(paths: tuple[str, ...], asked: str, chosen: list[str]) -> None:
    """A file, a glob with one match, or any part of a split model, which means all of them in order."""
    assert _chosen(paths, asked) == chosen


@pytest.mark.parametrize(
    ("paths", "asked", "match"),
    [
        (("a.gguf", "b.gguf"), "*.gguf", "matches 2 files: a.gguf, b.gguf"),
        (("a.gguf",), "*.bin", "has no file that matches"),
        (("a.json",), "*.json", "matches 1 files: a.json"),
        (("a.gguf",), "", "is a folder of 1 files"),
        (("x/a.gguf",), "x/", "is a folder"),
        (("A.gguf",), "a.gguf", "has no file a.gguf"),
        (SPLIT[:2], "Q4/*.gguf", "has 2 of 3 parts, part 3 is missing"),
        ((*SPLIT, "Q4/big-00001-of-00002.gguf"), SPLIT[0], r"say that they are \[2, 3\]"),
        ((*SPLIT, "Q4/big-00004-of-00003.gguf"), SPLIT[0], "has 4 of 3 parts"),
        (("big-00001-of-99999.gguf",), "*.gguf", "has 1 of 99999 parts, part 2, 3, 4,"),
        ((*SPLIT, "Q4/other-00001-of-00001.gguf"), "Q4/*.gguf", "matches 4 files"),
        (tuple(f"{n}.gguf" for n in range(40)), "*.gguf", "and 28 more"),
        ((), "a.gguf", "has no file"),
    ],
)
def test_what_is_no_one_model(paths: tuple[str, ...], asked: str, match: str) -> None:
    """Whatever means none or several is refused with what there is."""
    with pytest.raises(BadInput, match=match):
        _chosen(paths, asked)


def test_a_star_stays_in_its_folder() -> None:
    """`*` ends at a slash, `**` does not."""
    assert [matches("a/b.gguf", pattern) for pattern in ("*.gguf", "*/*.gguf", "**/*.gguf", "**")] == [
        False,
        True,
        True,
        True,
    ]


@pytest.mark.parametrize(
    "path",
    [
        "../a",
        "/etc/passwd",
        "a//b",
        "a/../b",
        ".",
        "a\\b",
        "a\nb",
        "a\x1b[31mb",
        "a\u202eb",
        "",
        "a" * 2000,
        "\ud800",
        7,
    ],
)
def test_names_that_are_not_plain_are_left_out(path: Any) -> None:
    """They are counted and cannot be chosen."""
    listing = make_listing("org/name", COMMIT, "", [(path, 1, "a" * 64, None), ("good", 1, None, "b" * 40)])
    assert ([entry.path for entry in listing.entries], listing.left_out) == (["good"], 1)


def test_twins_are_two_files() -> None:
    """Names that a folder of this machine might take for one are kept apart, since none becomes a name here."""
    twins = [("README", 1, "a" * 64, None), ("readme", 1, "b" * 64, None)]
    assert len({entry.name for entry in make_listing("org/name", COMMIT, "", twins).entries}) == 2


@pytest.mark.parametrize(
    "rows",
    [
        [("a", 1, "a" * 64, None), ("a", 1, "b" * 64, None)],
        [("a", -1, "a" * 64, None)],
        [("a", True, "a" * 64, None)],
        [("a", "1", "a" * 64, None)],
        [("a", 2**60, "a" * 64, None)],
        [("a", 1, "A" * 64, None)],
        [("a", 1, "../" + "a" * 61, None)],
        [("a", 1, None, "b" * 41)],
        [("a", 1, None, None)],
        [(f"{n}", 1, "a" * 64, None) for n in range(100_001)],
        [(f"{n}" + "x" * 1000, 1, "a" * 64, None) for n in range(20_000)],
    ],
)
def test_a_listing_that_makes_no_sense(rows: Any) -> None:
    """Twice the same name, no size, no digest, no end: the hub is not believed."""
    with pytest.raises(SourceFailed):
        make_listing("org/name", COMMIT, "", rows)


@pytest.mark.parametrize(
    ("licence", "name", "found"),
    [
        ("mit", None, "mit"),
        ("other", "qwen-research", "qwen-research"),
        ("other", None, "other"),
        (["mit", "apache-2.0"], None, "mit, apache-2.0"),
        ({"a": 1}, None, ""),
        ("x\x1b[2J", None, ""),
        (None, None, ""),
    ],
)
def test_the_licence_of_a_card(licence: object, name: object, found: str) -> None:
    """Whatever a card holds there, it becomes a short plain text or none."""
    assert card_licence(licence, name) == found


@pytest.mark.parametrize(
    ("environment", "match"),
    [
        ({"HF_ENDPOINT": "ftp://hub"}, "not the address of a hub"),
        ({"HF_ENDPOINT": "hub.example"}, "not the address of a hub"),
        ({"HF_ENDPOINT": "https://user:pw@hub.example"}, "not the address of a hub"),
        ({"HF_ENDPOINT": "https://[bad"}, "not the address of a hub"),
        ({"HF_TOKEN": "hf_x\r\nX: y"}, "HF_TOKEN is not a token"),
        ({"HF_TOKEN": "hf_x", "HF_ENDPOINT": "http://hub.example"}, "would go to http://hub.example in clear"),
    ],
)
def test_settings_that_are_refused(environment: dict[str, str], match: str) -> None:
    """An address that is none, and a token that would leak, end the work before anything is sent."""
    with pytest.raises(BadInput, match=match) as caught:
        hub_settings(environment)
    assert "hf_x" not in str(caught.value)


def test_the_settings_of_a_mirror() -> None:
    """A mirror and a token come from the environment, and the token does not show."""
    found = hub_settings({"HF_ENDPOINT": "https://mirror.example/", "HF_TOKEN": " hf_secret\n"})
    assert (found.endpoint, found.token, found.origin) == (
        "https://mirror.example",
        "hf_secret",
        ("https", "mirror.example", 443),
    )
    assert "hf_secret" not in repr(found)


def test_a_token_of_a_file(tmp_path: Path) -> None:
    """Jobs name a file, such as a systemd credential; what the environment says itself comes first."""
    file = tmp_path / "token"
    file.write_text("hf_file\n")
    assert hub_settings({"HF_TOKEN_PATH": str(file)}).token == "hf_file"
    assert hub_settings({"HF_TOKEN_PATH": str(file), "HF_TOKEN": "hf_own"}).token == "hf_own"
    with pytest.raises(BadInput, match="cannot be read: FileNotFoundError"):
        hub_settings({"HF_TOKEN_PATH": str(tmp_path / "none")})
