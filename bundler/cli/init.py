"""`lifeboat init`."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path

import click

from bundler.cli.options import command, home_option, passphrase, passphrase_option
from bundler.terminal import Terminal


@click.command()
@click.option("--name", required=True, help="The MSP's name, as it stands on cards.")
@home_option
@passphrase_option
@command
def init(terminal: Terminal, *, name: str, home: Path, passphrase_file: Path | None) -> None:
    """Make the keyring: root, release and refresh keys, encrypted with one passphrase."""
    from bundler.repository.cards import key_card
    from bundler.repository.keyring import ROLES, Keyring, Msp
    from bundler.repository.roots import Roots, first_root

    keyring = Keyring(home, lambda: passphrase(passphrase_file, confirm=True))
    keyring.create(Msp(name, secrets.token_hex(16)))
    now = datetime.now(UTC)
    Roots(home).add(first_root(keyring, now), now)
    keys = {role: str(keyring.public(role).keyid) for role in ROLES}
    cards = [
        key_card(name, role, str(keyring.folder / f"{role}.key"), key, keyring.sealed(role))
        for role, key in keys.items()
    ]
    terminal.result({"msp": keyring.msp().id, "keys": keys, "home": str(home)}, cards)
    terminal.note(f"Copy {home / 'keyring' / 'root.key'} to two offline media; then it need not stay here.")
    terminal.note("Next: lifeboat build PROFILE --repository DIR, then lifeboat site add SITE --repository DIR")
