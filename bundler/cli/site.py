"""`lifeboat site`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import IO

import click

from bundler.cli.options import command, home_option, keyring_of, passphrase_option, repository_option
from bundler.cli.recovery import restore, unseal
from bundler.terminal import Terminal

_existing = click.option(
    "--repository", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True, help="Its folder."
)


@click.group()
def site() -> None:
    """Sites: who may open the bundles of a repository."""


@site.command("add")
@click.argument("name")
@repository_option
@home_option
@passphrase_option
@click.option("--card", type=click.Path(path_type=Path, dir_okay=False), help="Write the site card to this file.")
@click.option("--no-recovery", is_flag=True, help="A new repository gets no recovery site.")
@click.option("--post-quantum", is_flag=True, help="A new repository wraps its keys with ML-KEM-768 and X25519.")
@command
def add(
    terminal: Terminal,
    *,
    name: str,
    repository: Path,
    home: Path,
    passphrase_file: Path | None,
    card: Path | None,
    no_recovery: bool,
    post_quantum: bool,
) -> None:
    """Make the site NAME and print its card; the repository is made if it is new."""
    from bundler.format.age import PQ_SUITE
    from bundler.format.site import check_site_id
    from bundler.repository.places import require_place
    from bundler.repository.publish import Publisher
    from bundler.repository.sites import NEW, NewSite, add_site, open_repository

    check_site_id(name)
    require_place(repository, "the repository")
    keyring = keyring_of(home, passphrase_file)
    keyring.ledger_identity()  # the passphrase is wrong now, not halfway
    publisher = Publisher(repository, keyring, datetime.now(UTC))
    codes: dict[str, str] = {}

    def hand_out(recovery: NewSite) -> None:
        terminal.note(recovery.card)
        terminal.note("The repository is new: print this recovery card too, and keep it with the root key.")
        codes["recovery_code"] = recovery.code

    with _card_file(card) as file, publisher.locked():
        is_new = not publisher.exists
        identifier = open_repository(
            publisher, keyring, hand_out, suite=PQ_SUITE if post_quantum else None, recovery=not no_recovery
        )
        made = add_site(publisher, keyring, identifier, name)
        result = {"site": made.site, "code": made.code, "repository": identifier}
        terminal.result({**result, **codes}, [made.card])  # first: whatever becomes of the file, the code is not lost
        file.write(made.card.encode())
    if is_new:
        terminal.note(NEW.format(repository.absolute()))


@contextmanager
def _card_file(card: Path | None) -> Iterator[IO[bytes]]:
    """Opens the file of the card before anything is made: a site whose card cannot be written is not wanted."""
    from bundler.files import staged
    from bundler.format.errors import BadInput

    if card is None:
        yield BytesIO()
        return
    wrong, hint = f"the card cannot be written to {card}", "name a new file in a folder that is there"
    if card.exists() or not card.absolute().parent.is_dir():
        raise BadInput(wrong, hint)
    with ExitStack() as stack:
        try:
            file = stack.enter_context(staged(card, mode=0o600))
        except OSError as error:
            raise BadInput(f"{wrong}: {error.strerror}", hint) from error
        yield file


@site.command("list")
@_existing
@home_option
@passphrase_option
@command
def list_sites(terminal: Terminal, *, repository: Path, home: Path, passphrase_file: Path | None) -> None:
    """Show the sites of a repository and the bundles that were copied for them."""
    from bundler.repository.ledger import read_ledger
    from bundler.repository.publish import Publisher

    keyring = keyring_of(home, passphrase_file)
    ledger = read_ledger(keyring, Publisher(repository, keyring, datetime.now(UTC)).policy().repository)
    rows = [
        {"site": known.site, "recipient": known.recipient, "delivered": known.delivered, "settings": known.settings}
        for known in ledger.sites
    ]
    lines = [f"{known.site:24}  {', '.join(known.delivered[-3:]) or 'nothing copied yet'}" for known in ledger.sites]
    terminal.result({"sites": rows}, lines or ["no sites"])


@site.command("authorize")
@click.argument("name")
@_existing
@home_option
@passphrase_option
@command
def authorize(terminal: Terminal, *, name: str, repository: Path, home: Path, passphrase_file: Path | None) -> None:
    """Give NAME the keys of every bundle that may be installed; takes no signing key and rewrites no payload."""
    from bundler.repository.publish import Publisher
    from bundler.repository.sites import authorize_site

    keyring = keyring_of(home, passphrase_file)
    publisher = Publisher(repository, keyring, datetime.now(UTC))
    with publisher.locked():
        authorize_site(publisher, keyring, name)
    terminal.result({"site": name}, [f"site {name} can open every bundle that may be installed"])


@site.command("remove")
@click.argument("name")
@_existing
@home_option
@passphrase_option
@command
def remove(terminal: Terminal, *, name: str, repository: Path, home: Path, passphrase_file: Path | None) -> None:
    """Take the site NAME away, from the next bundle on."""
    from bundler.repository.publish import Publisher
    from bundler.repository.sites import remove_site

    keyring = keyring_of(home, passphrase_file)
    publisher = Publisher(repository, keyring, datetime.now(UTC))
    with publisher.locked():
        remove_site(publisher, keyring, name)
    terminal.warn(f"{name} can still open every bundle so far, and volumes of them that later bundles use")
    terminal.result({"site": name}, [f"site {name} is removed: it cannot open what the next bundle adds"])


@site.command("set")
@click.argument("name")
@click.argument("values", nargs=-1, required=True, metavar="NAME=VALUE...")
@_existing
@home_option
@passphrase_option
@command
def set_values(
    terminal: Terminal,
    *,
    name: str,
    values: tuple[str, ...],
    repository: Path,
    home: Path,
    passphrase_file: Path | None,
) -> None:
    """Set what differs at the site NAME; NAME= removes a setting."""
    from bundler.repository.publish import Publisher
    from bundler.repository.sites import set_site

    pairs = [text.partition("=") for text in values]
    if wrong := [key for key, mark, _ in pairs if not mark]:
        raise click.BadParameter(f"{wrong[0]!r} is not NAME=VALUE", param_hint="VALUES")
    keyring = keyring_of(home, passphrase_file)
    publisher = Publisher(repository, keyring, datetime.now(UTC))
    with publisher.locked():
        settings = set_site(publisher, keyring, name, {key: value or None for key, _, value in pairs})
    terminal.result({"site": name, "settings": settings}, [f"{key} = {value}" for key, value in settings.items()])


site.add_command(restore)
site.add_command(unseal)
