"""`lifeboat site`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from bundler.cli.options import command, home_option, passphrase, passphrase_option, repository_option
from bundler.terminal import Terminal


@click.group()
def site() -> None:
    """Sites: who may open the bundles of a repository."""


@site.command("add")
@click.argument("name")
@repository_option
@home_option
@passphrase_option
@click.option("--card", type=click.Path(path_type=Path, dir_okay=False), help="Write the site card to this file.")
@command
def add(
    terminal: Terminal, *, name: str, repository: Path, home: Path, passphrase_file: Path | None, card: Path | None
) -> None:
    """Make the site NAME and print its card; the repository is made if it is new."""
    from bundler.files import write_atomic
    from bundler.repository.keyring import Keyring
    from bundler.repository.publish import Publisher
    from bundler.repository.sites import add_site, open_repository

    keyring = Keyring(home, lambda: passphrase(passphrase_file))
    publisher = Publisher(repository, keyring, datetime.now(UTC))
    with publisher.locked():
        identifier, recovery = open_repository(publisher, keyring)
        made = add_site(publisher, keyring, identifier, name)
    cards = [item.card for item in (recovery, made) if item is not None]
    if card is not None:
        write_atomic(card, made.card.encode(), mode=0o600)
    result = {"site": made.site, "code": made.code, "repository": identifier}
    if recovery is not None:
        result["recovery_code"] = recovery.code
        terminal.note("The repository is new: print its recovery card too, and keep it with the root key.")
    terminal.result(result, cards)
