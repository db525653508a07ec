"""`lifeboat-appliance seal`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appliance.cli.options import command, first_line
from bundler.terminal import Terminal

if TYPE_CHECKING:
    from appliance.store.slots import SealPlan

_machine = click.option(
    "--machine",
    type=click.Choice(["auto", "tpm2", "host", "file"]),
    help="What opens it with nobody present: TPM2, host key, a file; auto takes the best.",
)


@click.group()
def seal() -> None:
    """The seal: what opens this box's secrets, and what a pulled disk tells."""


@seal.command("show")
@command
def show(terminal: Terminal, *, state: Path) -> None:
    """Show the slots, and what each protects."""
    from appliance.host.seal_findings import protection
    from appliance.store.layout import StateLayout
    from appliance.store.seal import Seal

    opened = Seal(StateLayout(state).keys)
    opened.open()
    found = protection(opened.slots)
    terminal.result({**asdict(opened.slots), **asdict(found)}, [*found.slots, found.power_cut])
    (terminal.note if found.protects else terminal.alarm)(found.disk)


@seal.command("renew")
@_machine
@click.option("--recovery", metavar="RECIPIENT", help="Another recovery site; `lifeboat site list --json` shows it.")
@click.option(
    "--key-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Open it with what `lifeboat site unseal` gave, where this machine no longer can.",
)
@command
def renew(terminal: Terminal, *, machine: str | None, recovery: str | None, key_file: Path | None, state: Path) -> None:
    """Seal everything under a fresh key, after which a copy of an old slot opens nothing that is here."""

    def change(plan: SealPlan) -> SealPlan:
        plan = plan if recovery is None else replace(plan, recovery=recovery)
        return plan if machine is None else replace(plan, machine=_chosen(machine))

    _change(terminal, state, change, "" if key_file is None else first_line(key_file))


@seal.group()
def add() -> None:
    """Add a slot; everything is sealed under a fresh key."""


@add.command("machine")
@_machine
@command
def add_machine(terminal: Terminal, *, machine: str | None, state: Path) -> None:
    """Let this machine open the seal with nobody present."""
    _change(terminal, state, lambda plan: replace(plan, machine=_chosen(machine or "auto")))


@add.command("recovery")
@click.argument("recipient")
@command
def add_recovery(terminal: Terminal, *, recipient: str, state: Path) -> None:
    """Let the recovery card of RECIPIENT open the seal; `lifeboat site list --json` shows the recipient."""
    _change(terminal, state, lambda plan: replace(plan, recovery=recipient))


@add.command("passphrase")
@click.option(
    "--new-passphrase-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File whose first line is the new passphrase; asked for otherwise.",
)
@command
def add_passphrase(terminal: Terminal, *, new_passphrase_file: Path | None, state: Path) -> None:
    """Let a passphrase open the seal."""
    if new_passphrase_file is None:
        word = str(click.prompt("New passphrase", hide_input=True, confirmation_prompt=True, err=True))
    else:
        word = first_line(new_passphrase_file)
    _change(terminal, state, lambda plan: replace(plan, passphrase=word))


@seal.command("remove")
@click.argument("slot", type=click.Choice(["machine", "recovery", "passphrase"]))
@command
def remove(terminal: Terminal, *, slot: str, state: Path) -> None:
    """Remove a slot; everything is sealed under a fresh key, so that a copy of the slot opens nothing that is here."""

    def change(plan: SealPlan) -> SealPlan:
        if slot == "recovery":
            return replace(plan, recovery="")
        return replace(plan, machine=None) if slot == "machine" else replace(plan, passphrase=None)

    _change(terminal, state, change)


def _chosen(machine: str) -> str:
    from appliance.store import systemd_creds
    from appliance.store.slots import KEY_FILE

    return (systemd_creds.best_key() or KEY_FILE) if machine == "auto" else machine


def _change(terminal: Terminal, state: Path, change: Callable[[SealPlan], SealPlan], key: str = "") -> None:
    from appliance.host.reseal import reseal
    from appliance.host.seal_findings import protection
    from appliance.store.layout import StateLayout

    found = reseal(StateLayout(state), change, key)
    told = protection(found)
    terminal.result(asdict(found), ["everything is sealed under a fresh key", *told.slots, told.power_cut])
    if told.at_service:
        terminal.warn(told.at_service)
    (terminal.note if told.protects else terminal.alarm)(told.disk)
