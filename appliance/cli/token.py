"""`lifeboat-appliance token`."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import click

from appliance.cli.options import command
from bundler.terminal import Terminal

_HOUR_S, _DAY_S = 3_600, 86_400


@click.group()
def token() -> None:
    """Make, list and revoke the tokens that clients need."""


@token.command("create")
@click.argument("name")
@click.option("--days", type=click.IntRange(1, 3650), default=365, show_default=True, help="Days until it ends.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    help="use (ask) or monitor (watch: /health/ready, /metrics, /v1/events); both without.",
)
@click.option("--verb", "verbs", multiple=True, help="A part of /v1 that it may ask, such as chat; any without.")
@click.option("--model", "models", multiple=True, help="A model or route that it may ask for; any without.")
@click.option("--network", "networks", multiple=True, help="A network it may come from, as 10.1.0.0/16; any without.")
@click.option("--per-minute", type=click.IntRange(0), default=0, help="Requests a minute; 0 is no limit.")
@click.option("--tokens-per-day", type=click.IntRange(0), default=0, help="Model tokens a day (UTC); 0 is no limit.")
@click.option("--region", "regions", multiple=True, help="A region of providers that its data may go to; any without.")
@click.option("--no-cloud", is_flag=True, help="Its data goes to no provider: the box alone answers.")
@command
def create(
    terminal: Terminal,
    *,
    name: str,
    days: int,
    scopes: tuple[str, ...],
    verbs: tuple[str, ...],
    models: tuple[str, ...],
    networks: tuple[str, ...],
    per_minute: int,
    tokens_per_day: int,
    regions: tuple[str, ...],
    no_cloud: bool,
    state: Path,
) -> None:
    """Make a token for NAME; its text is shown once and stored nowhere."""
    from appliance.edge.grant import Grant
    from appliance.edge.tokens import SCOPES, TokenStore
    from appliance.store.layout import StateLayout
    from bundler.format.errors import BadInput

    now = int(time.time())
    layout = StateLayout(state)
    layout.make()
    if no_cloud and regions:
        raise BadInput("--no-cloud and --region do not go together", "name the regions, or none")
    allowed = regions if regions or no_cloud else None
    grant = Grant(verbs, models, networks, per_minute, allowed, tokens_per_day)
    ends = now + days * _DAY_S
    text, made = TokenStore(layout.tokens).create(
        name, now_s=now, expires_s=ends, scopes=tuple(dict.fromkeys(scopes)) or SCOPES, grant=grant
    )
    terminal.result({"token": text, "id": made.id, "expires": made.expires}, [text])
    terminal.note(f"token {made.id} for {name}, ends in {days} days; it is not shown again")


@token.command("rotate")
@click.argument("name")
@click.option("--grace", "grace_h", type=click.IntRange(0, 8_760), default=24, show_default=True, help="Hours.")
@click.option("--days", type=click.IntRange(0, 3650), default=0, help="Days until it ends; 0 leaves the end as it is.")
@command
def rotate(terminal: Terminal, *, name: str, grace_h: int, days: int, state: Path) -> None:
    """Give the token NAME (or its id) a new text; the old one works for some hours more."""
    from appliance.edge.tokens import TokenStore
    from appliance.store.layout import StateLayout

    now = int(time.time())
    ends = now + days * _DAY_S if days else 0
    text, made = TokenStore(StateLayout(state).tokens).rotate(
        name, now_s=now, grace_s=grace_h * _HOUR_S, expires_s=ends
    )
    terminal.result({"token": text, "id": made.id, "expires": made.expires, "grace_until": made.before_until}, [text])
    before = f"works until {_minute(made.before_until)}" if made.before_until else "works no more"
    terminal.note(f"the text of before {before}; the new one is not shown again")


@token.command("list")
@command
def list_tokens(terminal: Terminal, *, state: Path) -> None:
    """Show the tokens of this box, without their texts."""
    from appliance.edge import quota_file
    from appliance.edge.allowance import DAY_S
    from appliance.edge.grant import words_of
    from appliance.edge.tokens import TokenStore
    from appliance.store.layout import StateLayout
    from bundler.format.record import to_json

    layout, lines, records = StateLayout(state), [], []
    used = quota_file.read(layout.quotas, int(time.time() // DAY_S))
    for item in TokenStore(layout.tokens).list():
        today = used.get(item.id, 0)
        known = {"id": item.id, "label": item.label, "scopes": item.scopes, "expires": item.expires}
        known |= {"grace_until": item.before_until, "used_today": today}
        records.append({**known, "grant": to_json(item.grant)})
        spent = [f"{today:,} used today"] if item.grant.tokens_a_day else []
        grace = [f"the text of before ends {_minute(item.before_until)}"] if item.before_until else []
        limits = "; ".join((*words_of(item.grant), *spent, *grace))
        lines.append(f"{item.id}  {item.label}  {', '.join(item.scopes)}  ends {_day(item.expires)}  {limits}".rstrip())
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


def _minute(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _day(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d") if unix_s else "never"
