"""`lifeboat keys token`."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.options import command, first_line, home_option, keyring_of, passphrase_option
from bundler.terminal import Terminal

_hub = click.argument("hub", metavar="HUB-HOST")


@click.group()
def token() -> None:
    """Tokens of model hubs, kept encrypted in the keyring."""


@token.command("set")
@_hub
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File whose first line is the token; asked for on the terminal otherwise.",
)
@home_option
@passphrase_option
@command
def set_token(
    terminal: Terminal, *, hub: str, token_file: Path | None, home: Path, passphrase_file: Path | None
) -> None:
    """Keep a token for the hub at HUB-HOST (`huggingface.co`, or HOST:PORT); one that was kept is replaced."""
    from bundler.repository.hub_tokens import HubTokens
    from bundler.sources.hub_settings import checked_token, read_address

    address, ring = read_address(hub), keyring_of(home, passphrase_file)
    ring.msp()  # told before anything is asked
    if token_file is None:
        text = str(click.prompt(f"Token for {address}", hide_input=True, err=True))
    else:
        text = first_line(token_file, "the token file")
    replaced = HubTokens(ring).keep(address, checked_token(text.strip(), "what was given"))
    lines = [f"the token for {address} is kept in {ring.folder}" + (", the one before is gone" if replaced else "")]
    terminal.result({"hub": address, "replaced": replaced}, lines)


@token.command("remove")
@_hub
@home_option
@command
def remove(terminal: Terminal, *, hub: str, home: Path) -> None:
    """Remove the token for HUB-HOST from the keyring; to end it, revoke it at the hub."""
    from bundler.repository.hub_tokens import HubTokens
    from bundler.repository.keyring import Keyring
    from bundler.sources.hub_settings import read_address

    address = read_address(hub)
    HubTokens(Keyring(home, str)).remove(address)
    terminal.result({"removed": address}, [f"the token for {address} is removed; the hub still knows it"])


@token.command("list")
@home_option
@command
def list_tokens(terminal: Terminal, *, home: Path) -> None:
    """Show which hubs have a token here; the tokens themselves are never shown."""
    from bundler.repository.hub_tokens import HubTokens
    from bundler.repository.keyring import Keyring

    addresses = HubTokens(Keyring(home, str)).addresses()
    terminal.result({"hubs": addresses}, addresses or ["no token is kept"])
