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
@click.option("--rehearse", is_flag=True, help="Play the ceremony with throw-away keys; nothing is kept.")
@home_option
@passphrase_option
@command
def init(terminal: Terminal, *, name: str, rehearse: bool, home: Path, passphrase_file: Path | None) -> None:
    """Make the keyring: root, release and refresh keys, encrypted with one passphrase."""
    if rehearse:
        from bundler import rehearsal

        steps = rehearsal.rehearse(name, datetime.now(UTC), terminal.note)
        terminal.result({"rehearsed": steps}, [f"all {steps} steps held; the keys of this rehearsal are gone"])
        return
    from bundler.repository.cards import key_card
    from bundler.repository.keyring import ROLES, Keyring, Msp
    from bundler.repository.roots import Roots, first_root

    keyring = Keyring(home, lambda: passphrase(passphrase_file, confirm=True))
    now, roots = datetime.now(UTC), Roots(home)
    if not (keyring.exists and not roots.exist):  # else an earlier `init` was stopped between keys and root
        keyring.create(Msp(name, secrets.token_hex(16)))
    roots.add(first_root(keyring, now), now)
    keys = {role: str(keyring.public(role).keyid) for role in ROLES}
    cards = [
        key_card(name, role, str(keyring.folder / f"{role}.key"), key, keyring.sealed(role))
        for role, key in keys.items()
    ]
    terminal.result({"msp": keyring.msp().id, "keys": keys, "home": str(home)}, cards)
    terminal.note(f"Copy {home / 'keyring' / 'root.key'} to two offline media; then it need not stay here.")
    terminal.note("Next: lifeboat build PROFILE --repository DIR, then lifeboat site add SITE --repository DIR")
