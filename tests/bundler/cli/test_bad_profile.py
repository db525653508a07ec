"""Profiles, and files that a profile names, which are not acceptable: exit code 3, and nothing is built."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Run = Callable[..., Result]
BUNDLE = '[bundle]\nname = "x"\ntitle = "X"\n'
UPSTREAM = '[[upstream]]\nname = "u"\nbase_url = "https://cloud.example/v1"\nmodel = "m"\n'
MODEL = '[[model]]\nname = "m"\nsource = "file:model.gguf"\nlicence = "MIT"\n'
CASES = '[selftest]\ncases = ["{}"]\n'


@pytest.fixture
def profile(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a profile, with some files beside it that it may name."""
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty-base").mkdir()
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe")
    (tmp_path / "wrong.jsonl").write_text('{\n[]\n{"kind": "king"}\n{"kind": "faq", "question": "Q?"}\n')
    (tmp_path / "link.jsonl").symlink_to("binary.jsonl")

    def write(text: str) -> Path:
        (tmp_path / "p.toml").write_text(text)
        return tmp_path / "p.toml"

    return write


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (BUNDLE + 'recovery = "no"\n' + UPSTREAM, "[bundle]: recovery is not true or false"),
        (BUNDLE + "base = 3\n" + UPSTREAM, "[bundle]: base must be text"),
        (BUNDLE + UPSTREAM.replace("cloud", "[cloud"), "is no URL"),
        (BUNDLE + UPSTREAM.replace("example", "example:99999"), "is no http or https URL"),
        (BUNDLE + MODEL + 'licence_file = "file:none"\n', "file:none does not exist"),
        (BUNDLE + MODEL + 'licence_file = "file:folder"\n', "file:folder is not a file"),
        (BUNDLE + MODEL + 'licence_file = "folder"\n', "write file:PATH"),
        (BUNDLE + MODEL.replace("model.gguf", "none.gguf"), "file:none.gguf is not a file"),
        (BUNDLE + UPSTREAM + CASES.format("file:none.jsonl"), "file:none.jsonl does not exist"),
        (BUNDLE + UPSTREAM + CASES.format("file:folder"), "file:folder is not a file"),
        ("\x00", "is not TOML"),
    ],
)
def test_a_plan_names_what_is_wrong(lifeboat: Run, profile: Callable[[str], Path], text: str, told: str) -> None:
    """Before anything is built, and with the word that is to be changed."""
    done = lifeboat("plan", profile(text))
    assert done.exit_code == 3, done.stderr
    assert told in done.stderr


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("text", "told"),
    [
        (BUNDLE + 'base = "none"\n' + UPSTREAM, ["none holds no repository"]),
        (BUNDLE + 'base = "empty-base"\n' + UPSTREAM, ["empty-base holds no repository"]),
        (BUNDLE + MODEL, ["model.gguf"]),
        (BUNDLE + UPSTREAM + CASES.format("file:binary.jsonl"), ["binary.jsonl is not UTF-8"]),
        (BUNDLE + UPSTREAM + CASES.format("file:link.jsonl"), ["link.jsonl cannot be read"]),
        (
            BUNDLE + UPSTREAM + CASES.format("file:wrong.jsonl"),
            [
                "4 problems",
                "line 1: not JSON",
                "line 2: not an object",
                "line 3: no case of",
                "line 4: a case of faq has",
            ],
        ),
    ],
)
def test_a_build_makes_nothing_of_bad_content(
    lifeboat: Run, tmp_path: Path, passphrase: Path, profile: Callable[[str], Path], text: str, told: list[str]
) -> None:
    """All that is wrong with a file is listed, and no repository appears."""
    words = ("--repository", tmp_path / "new", "--yes", "--passphrase-file", passphrase)
    done = lifeboat("build", profile(text), *words)
    assert done.exit_code == 3, done.stderr
    assert [words for words in told if words not in done.stderr] == []
    assert not (tmp_path / "new" / "metadata").exists()


LACKING = {
    "faq": ('{"kind": "faq", "question": "Q?", "expect": "a"}', "[[faq]]"),
    "documents": (
        '{"kind": "documents", "question": "Q?", "expect": "a.md", "quote": "q"}',
        "[[documents]] or [[vectors]]",
    ),
    "route": ('{"kind": "route", "input": "it burns", "expect": "fire"}', "[[router]]"),
}


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("verb", ["plan", "build"])
@pytest.mark.parametrize("kind", LACKING)
def test_cases_for_content_that_is_not_there_are_refused_before_anything_is_fetched(
    lifeboat: Run, tmp_path: Path, passphrase: Path, profile: Callable[[str], Path], verb: str, kind: str
) -> None:
    """The model's source does not exist and is not reached; neither a lock nor a repository appears."""
    line, table = LACKING[kind]
    (tmp_path / "cases.jsonl").write_text(f"{line}\n{line}\n" + '{"kind": "refuse", "question": "Q?"}\n')
    path = profile(BUNDLE + MODEL.replace("model.gguf", "none.gguf") + CASES.format("file:cases.jsonl"))
    words = ("--repository", tmp_path / "new", "--yes") if verb == "build" else ()
    done = lifeboat(verb, path, *words, "--passphrase-file", passphrase)
    assert done.exit_code == 3, done.stderr
    assert f"the self-test asks what the profile does not have: 2 cases are of kind '{kind}'" in done.stderr
    assert f"and there is no {table}\n" in done.stderr
    assert "hint: add the content, or take these cases out" in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "new" / "metadata").exists()
    assert not path.with_suffix(".lock").exists()
    assert list((tmp_path / "home" / "work").glob("*/*")) == []


@pytest.mark.parametrize("lock", [b"x", b"{}", b'{"format":1,"pins":{"file:a":{"sha256":3}}}', b"\xff"])
def test_a_damaged_lock_is_the_operator_s(lifeboat: Run, profile: Callable[[str], Path], lock: bytes) -> None:
    """The lock is no file of a bundle: its damage is told with a way out."""
    path = profile(BUNDLE + UPSTREAM)
    path.with_suffix(".lock").write_bytes(lock)
    done = lifeboat("plan", path)
    assert done.exit_code == 3, done.stderr
    assert "p.lock is damaged" in done.stderr
    assert "hint: restore it, or delete it" in done.stderr


def test_a_lock_of_a_later_program_is_left(lifeboat: Run, profile: Callable[[str], Path]) -> None:
    """What it pins may mean something else by then."""
    path = profile(BUNDLE + UPSTREAM)
    path.with_suffix(".lock").write_bytes(b'{"format":2,"pins":{}}\n')
    done = lifeboat("plan", path)
    assert (done.exit_code, "p.lock is of format 2" in done.stderr) == (18, True), done.stderr


@pytest.mark.parametrize("name", ["binary.jsonl", "link.jsonl", "wrong.jsonl", "model.gguf"])
def test_a_file_that_is_no_faq_is_bad_input(
    lifeboat: Run, tmp_path: Path, profile: Callable[[str], Path], name: str
) -> None:
    """Whether by its bytes, its name or its kind."""
    profile("")
    done = lifeboat("faq", "check", tmp_path / name)
    assert done.exit_code == 3, done.stderr
    assert name in done.stderr


@pytest.mark.parametrize("address", ["u", "=https://a.example", "u="])
def test_an_address_without_its_upstream_is_a_wrong_command_line(
    lifeboat: Run, profile: Callable[[str], Path], address: str
) -> None:
    """--upstream wants a name and a URL."""
    assert lifeboat("plan", profile(BUNDLE + UPSTREAM), "--upstream", address).exit_code == 2
    unknown = lifeboat("plan", profile(BUNDLE + UPSTREAM), "--upstream", "v=https://a.example")
    assert (unknown.exit_code, "no such upstream" in unknown.stderr) == (3, True)
