"""What the box's fault sweep does with the seal: renew it, back up what it holds, restore that onto an empty state."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from sweep_place import NOW, RECOVERY_CODE, Place

Swept = tuple[str, Callable[[Place], None], bool, Callable[[Path], object]]
SECRET, TOKEN = "sk-sweep-0123456789", "sweep"
_BACKUP, _HANDED_ON, _SECOND = "backup.age", "handed-on.age", "second"


def furnish(place: Place) -> None:
    """Gives the box a key of a provider, a CA and a token, as one that has served for a while."""
    from appliance.edge.tokens import TokenStore
    from appliance.host.authority import authority_fingerprint
    from appliance.store.layout import StateLayout
    from appliance.store.seal import Seal
    from appliance.store.secrets import Secrets

    layout = StateLayout(place.root / "state")
    Secrets(Seal(layout.keys, place.layer)).put("cloud", SECRET)
    authority_fingerprint(layout, NOW)
    TokenStore(layout.tokens).create(TOKEN, now_s=1)


def renew(place: Place) -> None:
    from appliance.host.reseal import reseal
    from appliance.store.layout import StateLayout

    reseal(StateLayout(place.root / "state"), lambda plan: plan, layer=place.layer)


def back_up(place: Place) -> None:
    from appliance.store import backup
    from appliance.store.layout import StateLayout

    backup.back_up(StateLayout(place.root / "state"), place.root / _BACKUP, NOW, layer=place.layer)


def hand_on(place: Place) -> None:
    """Does what the MSP does with the recovery card."""
    from bundler.repository.recovery import hand_on_backup, open_recovery

    recovery = open_recovery(place.root / "repository", (place.root / RECOVERY_CODE).read_text())
    (place.root / _HANDED_ON).write_bytes(hand_on_backup(place.root / _BACKUP, recovery, "bristol")[1])


def restore(place: Place, install: Callable[..., None]) -> None:
    from appliance.store.backup import restorer
    from bundler.terminal import Terminal

    install(place, state=_SECOND, restore=restorer(place.root / _HANDED_ON, Terminal(quiet=True)))


def sealed(root: Path, state: str = "state") -> object:
    """Opens everything that a seal holds, by this machine's slot; None where there is no seal yet."""
    from appliance.store.layout import StateLayout
    from appliance.store.seal import Seal

    seal = Seal(StateLayout(root / state).keys)
    return (seal.contents(), seal.slots, seal.open()) if seal.enrolled else None


def backed_up(root: Path) -> object:
    """Opens the backup with the recovery card; None where there is none."""
    from bundler.repository.recovery import hand_on_backup, open_recovery

    if not (root / _BACKUP).exists():
        return None
    recovery = open_recovery(root / "repository", (root / RECOVERY_CODE).read_text())
    return hand_on_backup(root / _BACKUP, recovery, "bristol")[0]


def restored(root: Path, serving: Callable[..., int | None]) -> object:
    """What the restored box serves and holds; None where it does not serve yet, whatever else is there already."""
    from appliance.store.layout import StateLayout

    number = serving(root, _SECOND) if (root / _SECOND / "versions").is_dir() else None
    if number is None:
        return None
    return number, sealed(root, _SECOND), StateLayout(root / _SECOND).tokens.read_bytes()


def commands(install: Callable[..., None], serving: Callable[..., int | None]) -> tuple[Swept, ...]:
    """The commands as the sweep takes them: name, what it does, whether it is swept, and what to look at."""
    return (
        ("furnish", furnish, False, sealed),
        ("seal renew", renew, True, sealed),
        ("back up", back_up, True, backed_up),
        ("hand on", hand_on, False, backed_up),
        ("restore", partial(restore, install=install), True, partial(restored, serving=serving)),
    )
