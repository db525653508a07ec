"""`lifeboat-appliance token`."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import click

from appliance.cli.options import command
from bundler.terminal import Terminal

_DAY_S = 86_400


@click.group()
def token() -> None:
    """Make, list and revoke the tokens that clients need."""


@token.command("create")
@click.argument("name")
@click.option("--days", type=click.IntRange(1, 3650), default=365, show_default=True, help="Days until it ends.")
@command
def create(terminal: Terminal, *, name: str, days: int, state: Path) -> None:
    """Make a token for NAME; its text is shown once and stored nowhere."""
    from appliance.edge.tokens import TokenStore
    from appliance.store.layout import StateLayout

    now = int(time.time())
    layout = StateLayout(state)
    layout.make()
    text, made = TokenStore(layout.tokens).create(name, now_s=now, expires_s=now + days * _DAY_S)
    terminal.result({"token": text, "id": made.id, "expires": made.expires}, [text])
    terminal.note(f"token {made.id} for {name}, ends in {days} days; it is not shown again")


@token.command("list")
@command
def list_tokens(terminal: Terminal, *, state: Path) -> None:
    """Show the tokens of this box, without their texts."""
    from appliance.edge.tokens import TokenStore
    from appliance.store.layout import StateLayout

    found = TokenStore(StateLayout(state).tokens).list()
    lines = [f"{item.id}  {item.label}  {', '.join(item.scopes)}  ends {_day(item.expires)}" for item in found]
    records = [{"id": item.id, "label": item.label, "scopes": item.scopes, "expires": item.expires} for item in found]
    terminal.result({"tokens": records}, lines or ["no tokens"])


@token.command("revoke")
@click.argument("token_id")
@command
def revoke(terminal: Terminal, *, token_id: str, state: Path) -> None:
    """Revoke the token TOKEN_ID; it stops working at once."""
    from appliance.edge.tokens import TokenStore
    from appliance.store.layout import StateLayout

    gone = TokenStore(StateLayout(state).tokens).revoke(token_id)
    terminal.result({"revoked": gone.id}, [f"revoked {gone.id} ({gone.label})"])


def _day(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d") if unix_s else "never"
