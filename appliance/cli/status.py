"""`lifeboat-appliance status`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from appliance.cli.options import command
from bundler.terminal import Terminal


@click.command()
@command
def status(terminal: Terminal, *, state: Path) -> None:
    """Say what this box serves, from which bundle, and whether it comes back alone after a power cut."""
    from appliance.host.status import read_status

    found = read_status(state, datetime.now(UTC))
    terminal.result(asdict(found), found.lines())
    for warning in found.warnings:
        terminal.alarm(warning)
