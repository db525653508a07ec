"""`lifeboat-appliance check`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from appliance.cli.options import first_command
from bundler.terminal import Terminal


@click.command()
@click.option("--max-age-days", type=click.IntRange(1), default=45, show_default=True, help="Older content warns.")
@first_command
def check(terminal: Terminal, *, max_age_days: int, state: Path) -> None:
    """Say in one line how this box is, for monitoring: exit code 0 good, 1 warning, 2 critical, 3 unknown."""
    from appliance.host.check import look

    verdict = look(state, datetime.now(UTC), max_age_days)
    terminal.result({"state": verdict.word, "reasons": list(verdict.reasons)}, [verdict.line()])
    sys.exit(verdict.code)
