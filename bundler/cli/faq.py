"""`lifeboat faq`."""

from __future__ import annotations

import sys
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
    """List entries without variants and questions that fight; exit code 8 if there are any."""
    from bundler.faq_check import check_faq

    issues = check_faq(file, profile, wheels, terminal.note)
    terminal.result({"issues": issues}, issues or ["no issues"])
    if issues:
        sys.exit(EXIT_FINDINGS)
