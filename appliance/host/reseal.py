"""Changes the slots of a box's seal, on a box that may be serving."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from appliance.host.switching import is_served
from appliance.store import slots
from appliance.store.layout import StateLayout
from appliance.store.seal import Seal
from appliance.store.slots import KEY_FILE, UNCHANGED, SealPlan, Slots
from appliance.store.systemd_creds import HOST, TPM2
from bundler.files import DISK, FileLayer
from bundler.format.age.errors import AgeError
from bundler.format.errors import BadInput, Busy


def reseal(
    layout: StateLayout, change: Callable[[SealPlan], SealPlan], key: str = "", layer: FileLayer = DISK
) -> Slots:
    """Seals everything under a fresh key, with the slots as `change` makes them of those that are there.

    Args:
        layout: The state.
        change: Of the slots.
        key: The seal's key, where this machine no longer opens it.
        layer: Where faults can be put.

    Raises:
        NotReady: Not enrolled, or the machine has no such key.
        BadInput: Nothing at the box would open it, or a recipient, key or passphrase is none.
        Busy: What serves holds a key that would open nothing any more.
    """
    try:
        seal = Seal(layout.keys, layer, key)
    except AgeError as error:
        raise BadInput(f"the key file holds no key of a seal: {error}") from error
    has = seal.slots
    plan = change(plan_of(has, seal.open().recovery))
    if plan.passphrase == UNCHANGED:
        plan = replace(plan, passphrase=slots.ask_passphrase(seal.folder))
    if is_served(layout) and (has.machine, plan.machine) != ((KEY_FILE,), KEY_FILE):
        raise Busy("what serves was given the seal's key at its start", "stop it first: systemctl stop lifeboat")
    seal.renew(plan)
    return seal.slots


def plan_of(has: Slots, recovery: str) -> SealPlan:
    """Returns the plan that gives the slots that are there. Pure."""
    machine = None
    if has.machine:
        machine = TPM2 if TPM2 in has.machine else HOST if HOST in has.machine else KEY_FILE
    return SealPlan(machine, recovery, UNCHANGED if has.passphrase else None)
