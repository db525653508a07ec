"""`lifeboat-appliance rollback`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from appliance.cli.options import command
from bundler.terminal import Terminal


@click.command()
@click.option("--reason", default="by hand", show_default=True, help="Kept with the version that is taken back.")
@command
def rollback(terminal: Terminal, *, reason: str, state: Path) -> None:
    """Go back to the version before the one that serves; the reason stays on record."""
    from appliance.host.rollback import roll_back

    number = roll_back(state, reason, datetime.now(UTC))
    terminal.result({"version": number, "reason": reason}, [f"back at version {number}"])
