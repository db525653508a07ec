"""`lifeboat profile`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from bundler.cli.options import command
from bundler.cli.sourcing import profile_argument, tier_option
from bundler.terminal import EXIT_FINDINGS, Terminal


@click.group()
def profile() -> None:
    """Profiles: make one from a shipped one, check it without network, say what it means."""


@profile.command("new")
@click.argument("name")
@click.option("--from", "source", default="minimal", show_default=True, help="The shipped profile to start from.")
@click.option("--tier", default="", metavar="NAME", help="The hardware tier that it names.  [default: the source's]")
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    show_default="this folder",
    help="Where to put it.",
)
@command
def new(terminal: Terminal, *, name: str, source: str, tier: str, folder: Path) -> None:
    """Make the profile NAME with content that builds and passes its self-test."""
    from bundler.authoring.new import make_profile, shipped_folder

    made = make_profile(name, source, tier, folder, shipped_folder())
    lines = [f"{made.profile} and its content in {made.content}"]
    lines += [f"  {path} is new, too" for path in made.beside]
    lines += [f"next: edit it, then `lifeboat profile check {made.profile}`"]
    terminal.result(asdict(made), lines)


@profile.command("check")
@profile_argument
@tier_option
@command
def check(terminal: Terminal, *, profile: Path, tier: str) -> None:
    """List what is wrong with PROFILE and its content, all at once, without network; exit code 8 if anything is."""
    from bundler.authoring.check import check_profile

    found = check_profile(profile, tier)
    for warning in found.warnings:
        terminal.warn(warning)
    terminal.result(asdict(found), found.issues or ["no issues"])
    if found.issues:
        sys.exit(EXIT_FINDINGS)


@profile.command("explain")
@profile_argument
@tier_option
@command
def explain(terminal: Terminal, *, profile: Path, tier: str) -> None:
    """Say in plain words what PROFILE holds, who answers, what leaves the building, and what is missing."""
    from bundler.authoring.explain import explain_profile

    sections = explain_profile(profile, tier)
    lines = [line for section in sections for line in (section.title, *(f"  {text}" for text in section.lines), "")]
    terminal.result({"sections": [asdict(section) for section in sections]}, lines[:-1])
