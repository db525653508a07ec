"""`lifeboat-appliance backup`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from appliance.cli.options import command
from bundler.terminal import Terminal, size


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--to", "also_to", multiple=True, metavar="RECIPIENT", help="A further age recipient who can open it.")
@command
def backup(terminal: Terminal, *, file: Path, also_to: tuple[str, ...], state: Path) -> None:
    """Back up tokens, secrets, the box's CA and its trust to FILE, for the recovery site; content is not in it."""
    from appliance.store.backup import back_up
    from appliance.store.layout import StateLayout

    done = back_up(StateLayout(state), file, datetime.now(UTC), also_to)
    lines = [f"{file}: {size(done.length_bytes)}, {len(done.files)} files; this box cannot open it"]
    terminal.result({"file": str(file), **asdict(done)}, [*lines, *(f"  {name}" for name in done.files)])
