"""`lifeboat site restore` and `lifeboat site unseal`: what the recovery card opens for a box."""

from __future__ import annotations

from pathlib import Path

import click

from bundler.cli.options import command, first_line
from bundler.terminal import Terminal

_repository = click.option(
    "--repository", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True, help="Its folder."
)
_code = click.option(
    "--recovery-code-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File whose first line is the code on the recovery card; asked for otherwise.",
)
_file = click.Path(path_type=Path, exists=True, dir_okay=False)
_out = click.Path(path_type=Path, dir_okay=False)


@click.command("restore")
@click.argument("backup", type=_file)
@click.argument("out", type=_out)
@click.option("--site", "name", required=True, help="The site of the box.")
@_repository
@_code
@command
def restore(
    terminal: Terminal, *, backup: Path, out: Path, name: str, repository: Path, recovery_code_file: Path | None
) -> None:
    """Hand a box's BACKUP on as OUT, which opens with the card of its site alone; the recovery key stays here."""
    from bundler.files import write_atomic
    from bundler.repository.recovery import hand_on_backup, open_recovery

    recovery = open_recovery(repository, _code_of(recovery_code_file))
    opened, handed_on = hand_on_backup(backup, recovery, name)
    write_atomic(out, handed_on, mode=0o600)
    lines = [
        f"{out}: the backup of site {opened.site} of {opened.made}",
        f"at the box, onto an empty state: lifeboat-appliance install MEDIUM --restore {out.name}",
    ]
    terminal.result({"site": opened.site, "made": opened.made, "out": str(out)}, lines)


@click.command("unseal")
@click.argument("slot", type=_file)
@click.argument("out", type=_out)
@_repository
@_code
@command
def unseal(terminal: Terminal, *, slot: Path, out: Path, repository: Path, recovery_code_file: Path | None) -> None:
    """Write the key of one box's seal to OUT, from its `keys/seal/recovery.slot`; who has OUT can read that disk."""
    from bundler.files import write_atomic
    from bundler.repository import recovery

    key = recovery.unseal(slot, recovery.open_recovery(repository, _code_of(recovery_code_file)))
    write_atomic(out, key + b"\n", mode=0o600)
    terminal.result({"out": str(out)}, [f"at the box: lifeboat-appliance seal renew --machine auto --key-file {out}"])
    terminal.warn(f"{out} opens that box's disk until its seal is renewed with it: carry it apart from the disk")


def _code_of(file: Path | None) -> str:
    if file is not None:
        return first_line(file)
    return str(click.prompt("Recovery code (on the recovery card)", hide_input=True, err=True))
