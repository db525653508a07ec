"""`lifeboat init`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from bundler.cli.options import command, home_option, new_passphrase, passphrase_option
from bundler.terminal import Terminal


@click.command()
@click.option("--name", required=True, help="The MSP's name, as it stands on cards.")
@click.option(
    "--adopt",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="REPOSITORY",
    help="The keys were restored from their cards: take the roots from one of the MSP's repositories.",
)
@click.option("--root", "root_sha256", help="With --adopt: SHA-256 of a root, as on any site or recovery card.")
@click.option("--rehearse", is_flag=True, help="Play the ceremony with throw-away keys; nothing is kept.")
@home_option
@passphrase_option
@command
def init(
    terminal: Terminal,
    *,
    name: str,
    adopt: Path | None,
    root_sha256: str | None,
    rehearse: bool,
    home: Path,
    passphrase_file: Path | None,
) -> None:
    """Make the keyring: root, release and refresh keys, encrypted with one passphrase."""
    if (adopt is None) != (root_sha256 is None):
        raise click.UsageError("--adopt and --root go together")
    if rehearse:
        from bundler import rehearsal

        steps = rehearsal.rehearse(name, datetime.now(UTC), terminal.note)
        terminal.result({"rehearsed": steps}, [f"all {steps} steps held; the keys of this rehearsal are gone"])
        return
    from bundler.format.errors import BadInput
    from bundler.repository import ceremony
    from bundler.repository.cards import key_card
    from bundler.repository.keyring import LEDGER, ROLES, Keyring
    from bundler.repository.roots import Roots

    if (home / ".git").exists():
        raise BadInput(
            f"{home} is a clone of source code", "set LIFEBOAT_HOME to a folder of its own, or leave it unset"
        )
    keyring = Keyring(home, lambda: new_passphrase(passphrase_file))
    if adopt is not None and root_sha256 is not None:
        version = ceremony.adopt(keyring, Roots(home), name, adopt, root_sha256, datetime.now(UTC))
        terminal.result({"msp": keyring.msp().id, "root": version}, [f"this home knows the roots up to {version}"])
        return
    ceremony.make_keyring(keyring, Roots(home), name, datetime.now(UTC))
    keys = {role: str(keyring.public(role).keyid) for role in ROLES}
    cards = [
        key_card(name, role, str(keyring.folder / f"{role}.key"), key, keyring.sealed(role))
        for role, key in {**keys, LEDGER: str(keyring.ledger_identity().recipient)}.items()
    ]
    terminal.result({"msp": keyring.msp().id, "keys": keys, "home": str(home)}, cards)
    terminal.note(f"Copy {home / 'keyring' / 'root.key'} to two offline media; then it need not stay here.")
    terminal.note(f"Back {home} up, ledgers included: without the ledger no site can be given older bundles.")
    terminal.note("Next: lifeboat site add SITE --repository DIR, then lifeboat build PROFILE --repository DIR")
