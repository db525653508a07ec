"""`lifeboat-appliance rollback`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from appliance.cli.options import command
from bundler.terminal import Terminal


@click.command()
@click.option("--reason", default="by hand", show_default=True, help="Kept with the version that is taken back.")
@click.option(
    "--images/--no-images",
    default=None,
    help="Load the container images of that version; without either, as the last install or `image load` was told.",
)
@command
def rollback(terminal: Terminal, *, reason: str, images: bool | None, state: Path) -> None:
    """Go back to the version before the one that serves; the reason stays on record."""
    from appliance.host.images import after_switch
    from appliance.host.rollback import roll_back
    from appliance.store.layout import StateLayout

    now = datetime.now(UTC)
    number = roll_back(state, reason, now)
    told = after_switch(StateLayout(state), terminal, now, wanted=images)
    lines = [f"back at version {number}", *(f"  {line}" for line in told)]
    terminal.result({"version": number, "reason": reason}, lines)
