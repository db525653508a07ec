"""`lifeboat-appliance secret`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appliance.cli.options import command
from bundler.terminal import Terminal

_FILE_CHARACTERS = 2**20

if TYPE_CHECKING:
    from appliance.store.secrets import Secrets


@click.group()
def secret() -> None:
    """Keep keys of providers sealed on this box; a running box uses a new one within a second."""


@secret.command("set")
@click.argument("name")
@click.option(
    "--file",
    "source",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True),
    help="Read it from the first line of a file, - for standard input; certificates in PEM whole. Asked for otherwise.",
)
@command
def set_(terminal: Terminal, *, name: str, source: Path | None, state: Path) -> None:
    """Set the secret NAME, which a profile's upstream names as its `key` or `ca`."""
    with _opened(state) as secrets:
        secrets.put(name, _value(source))
    terminal.result({"name": name}, [f"secret {name} is set"])


@secret.command("list")
@command
def list_(terminal: Terminal, *, state: Path) -> None:
    """List the names of all secrets; their values are never shown."""
    with _opened(state) as secrets:
        names = sorted(secrets.read())
    terminal.result({"names": names}, names)


@secret.command("remove")
@click.argument("name")
@command
def remove(terminal: Terminal, *, name: str, state: Path) -> None:
    """Remove the secret NAME."""
    with _opened(state) as secrets:
        secrets.remove(name)
    terminal.result({"name": name}, [f"secret {name} is removed"])


def _value(source: Path | None) -> str:
    if source is None:
        return str(click.prompt("Secret", hide_input=True, err=True)).strip()
    from appliance.gateway.trusted import PEM

    with click.open_file(str(source), encoding="utf-8", errors="strict") as file:
        text = str(file.read(_FILE_CHARACTERS))
    return text if PEM in text else text.partition("\n")[0].strip()


@contextmanager
def _opened(state: Path) -> Iterator[Secrets]:
    """The secrets, under a lock: of two that set one at a time, the last would undo the first."""
    from appliance.store.layout import StateLayout
    from appliance.store.seal import Seal
    from appliance.store.secrets import Secrets
    from bundler.files import exclusive

    layout = StateLayout(state)
    seal = Seal(layout.keys)
    seal.open()
    with exclusive(layout.keys / "secrets.lock", "another command changes the secrets"):
        yield Secrets(seal)
