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
    from appliance.host.images import after_switch
    from appliance.host.rollback import roll_back
    from appliance.store.layout import StateLayout

    now = datetime.now(UTC)
    number = roll_back(state, reason, now)
    images = after_switch(StateLayout(state), terminal, now)
    lines = [f"back at version {number}", *(f"  {line}" for line in images)]
    terminal.result({"version": number, "reason": reason}, lines)
