"""`lifeboat-appliance pin`."""

from __future__ import annotations

from pathlib import Path

import click

from appliance.cli.options import command
from bundler.terminal import Terminal


@click.command()
@click.argument("target")
@click.option("--for", "duration", help="How long, such as 30m, 2h or 1d; at most 7 days. Then it ends by itself.")
@command
def pin(terminal: Terminal, *, target: str, duration: str | None, state: Path) -> None:
    """Let only TARGET of the providers be asked for a while: `local` for none, a provider's name, or `auto` for all.

    The box's own rungs answer as ever. A running box follows within a second; answers, /health/ready, /metrics and
    /status say it.
    """
    from datetime import UTC, datetime

    from appliance.host.pin import set_pin

    made = set_pin(state, target, duration, datetime.now(UTC))
    terminal.result({"target": made.target, "until": made.until if made.words else None}, [_line(made.words)])


def _line(words: str) -> str:
    return f"pinned to {words}" if words else "not pinned"
