"""What the documents name is there: commands with their options, files, headings, tests, and names of the code."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

import appliance.cli
import bundler.cli

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = {"lifeboat": bundler.cli.main, "lifeboat-appliance": appliance.cli.main}
DOCS = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "bundler/format/SPEC.md"]
DOCS += sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))

_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_COMMAND = re.compile(r"(?:^|\bsudo |\bbin/|&& )(lifeboat(?:-appliance)?) ([a-z][a-z|-]*\b.*)")
_ENDS = re.compile(r"\s+#\s.*|\s*(?:&&|\|\||>|;).*|\s\|\s.*")
_SCRIPT = re.compile(r"(scripts/\w+(?:\.py)?)(?![\w.*-])([^&|]*)")
_OPTION = re.compile(r"(?<= )--[a-z][a-z-]*")
_LINK = re.compile(r"\[[^\]]+\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
_PATH = re.compile(r"(?:bundler|appliance|docs|scripts|tests|profiles|requirements)/[\w./*-]+")
_NAME = re.compile(r"LIFEBOAT_[A-Z_]+|HF_[A-Z_]+|[a-z]+[a-z0-9]*(?:_[a-z0-9]+)+|X-Lifeboat-[A-Z][A-Za-z-]+")
# Names that are not ours, or that the code puts together, with where they come from.
ELSEWHERE = {
    "collection_not_found": "appliance/routes/knowledge.py makes it of the field's name",
    "router_not_found": "the same",
    "extra_headers": "OpenAI's client",
    "model_quantized": "a file of exports on model hubs",
}
# The text under a MAC (SPEC 6.5), not a command.
NO_COMMAND = "lifeboat backup"
_TEST = re.compile(r"test_\w+")


@cache
def text_of(doc: str) -> str:
    return (ROOT / doc).read_text()


def spans(doc: str) -> Iterator[str]:
    """Yields what stands in backticks, and every line of an indented block."""
    for line in text_of(doc).splitlines():
        if line.startswith("    ") and not line.lstrip().startswith(("- ", "|")):
            yield line.strip()
        else:
            yield from _SPAN.findall(line)


@cache
def code() -> str:
    """Returns the text of every tracked file that is no document, and its path."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    files = [name for name in listed.split("\0") if name and not name.endswith(".md")]
    texts = [(ROOT / name).read_bytes().decode(errors="replace") for name in files if (ROOT / name).is_file()]
    return "\n".join([*files, *texts])


def wrong_in(program: str, words: list[str]) -> str:
    """Returns what a command line names that the program does not have, or ""."""
    command: click.Command = PROGRAMS[program]
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        names = words.pop(0).strip(",.:)").split("|")
        unknown = [name for name in names if name not in command.commands]
        if unknown:
            return f"{program} has no command {unknown[0]}"
        command = command.commands[names[0]]
    known = {option for param in command.params for option in (*param.opts, *param.secondary_opts)} | {"--help"}
    given = [found[0] for word in words if (found := re.match(r"--[a-z][a-z-]*", word.lstrip("[(")))]
    return next((f"{program} {command.name} has no {option}" for option in given if option not in known), "")


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("doctor", "lifeboat has no command doctor"),
        ("keys token set|lose HOST", "lifeboat has no command lose"),
        ("plan PROFILE --dry-run", "lifeboat plan has no --dry-run"),
        ("copy REPOSITORY FOLDER [--site NAME]", ""),
    ],
)
def test_a_command_that_is_not_there_is_seen(line: str, wrong: str) -> None:
    """The check of the documents finds what it is made for."""
    assert wrong_in("lifeboat", line.split()) == wrong


@pytest.mark.parametrize("doc", DOCS)
def test_commands_and_their_options_exist(doc: str) -> None:
    """Whoever types what a document says is not told that there is no such command."""
    wrong = []
    for span in spans(doc):
        for program, rest in _COMMAND.findall(span) if span != NO_COMMAND else ():
            wrong.append(wrong_in(program, _ENDS.sub("", rest).split()))
    assert list(filter(None, wrong)) == []


@pytest.mark.parametrize("doc", DOCS)
def test_options_of_scripts_exist(doc: str) -> None:
    """A benchmark's command line can be typed as it stands there."""
    missing = []
    for span in spans(doc):
        for script, rest in _SCRIPT.findall(_ENDS.sub("", span)):
            known = (ROOT / script).read_text()
            missing += [f"{script} {option}" for option in _OPTION.findall(rest) if f'"{option}"' not in known]
    assert missing == []


@pytest.mark.parametrize("doc", DOCS)
def test_files_and_headings_exist(doc: str) -> None:
    """Links lead to files and headings that are there, and a path in the text is one of the repository."""
    missing = []
    for target, heading in _LINK.findall(text_of(doc)):
        file = (ROOT / doc).parent / target if target else ROOT / doc
        slugs = {slug(line) for line in file.read_text().splitlines()} if file.is_file() else set()
        if not file.exists() or (heading and heading not in slugs):
            missing.append(f"{target}#{heading}")
    for span in spans(doc):
        missing += [
            path for path in _PATH.findall(span) if _is_ours(span, path) and not list(ROOT.glob(path.rstrip("./")))
        ]
    assert missing == []


def slug(line: str) -> str:
    """Returns the anchor of a heading, as code hosts make it, or "" of any other line."""
    if not line.startswith("#"):
        return ""
    return re.sub(r"[^\w -]", "", line.lstrip("# ").strip().lower()).replace(" ", "-")


def _is_ours(span: str, path: str) -> bool:
    return re.search(rf"(?<![\w/.:-]){re.escape(path)}", span) is not None


@pytest.mark.parametrize("doc", DOCS)
def test_tests_exist(doc: str) -> None:
    """A document that rests on a test names one that is there."""
    assert [name for span in spans(doc) for name in _TEST.findall(span) if not re.search(rf"\b{name}\b", code())] == []


@pytest.mark.parametrize("doc", DOCS)
def test_names_of_the_code_exist(doc: str) -> None:
    """Keys, codes, metrics, headers and variables of the environment are written as the code writes them."""
    names = {name for span in spans(doc) for name in _NAME.findall(span)} - ELSEWHERE.keys()
    # The library of the metrics puts `_total` behind the name of a counter.
    assert sorted(name for name in names if name.removesuffix("_total") not in code()) == []


def test_what_is_named_elsewhere_is_named() -> None:
    """The list of exceptions has no entry that nothing needs."""
    said = "".join(map(text_of, DOCS))
    assert [name for name in ELSEWHERE if name not in said or name in code().replace(f'"{name}": ', "")] == []
