"""`lifeboat faq`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from bundler.cli.options import command
from bundler.terminal import EXIT_FINDINGS, Terminal


@click.group()
def faq() -> None:
    """FAQ files: JSONL or CSV with question, answer and variants."""


@faq.command("check")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--profile", type=click.Path(path_type=Path, dir_okay=False), help="Compare with its embedding model too."
)
@click.option("--wheels", type=click.Path(path_type=Path, file_okay=False), help="Folder of fetched wheels.")
@command
def check(terminal: Terminal, *, file: Path, profile: Path | None, wheels: Path | None) -> None:
    """List entries without variants, questions that fight, near misses that match; exit code 8 if there are any."""
    from bundler.faq_check import check_faq

    found = check_faq(file, profile, wheels, terminal.note)
    for warning in found.warnings:
        terminal.warn(warning)
    terminal.result(asdict(found), found.issues or ["no issues"])
    if found.issues:
        sys.exit(EXIT_FINDINGS)
