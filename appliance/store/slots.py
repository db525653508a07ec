"""The slots of a seal: who can open it, where each lies, and what each means for a disk that is pulled.

- `machine.key`: the seal's key in plain; nobody needs to be there, and whoever has the disk has it
- `machine.cred`: the same encrypted by systemd-creds; this machine's TPM2 or host key opens it
- `recovery.slot`: an age file to the recovery site of the MSP, whose card opens it; the box has no private part
- `passphrase.slot`: an age file under a passphrase; somebody must be there (`serve --attended`)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from appliance.store import systemd_creds
from bundler.files import read_limited
from bundler.format import age
from bundler.format.age.errors import AgeError
from bundler.format.errors import BadBundle, BadInput, FileMissing, NotReady, WrongKey

KEY_FILE = "file"
UNCHANGED = ""
MACHINE_KEY, MACHINE_CREDENTIAL = "machine.key", "machine.cred"
RECOVERY_SLOT, PASSPHRASE_SLOT = "recovery.slot", "passphrase.slot"
_SLOT_BYTES = 65_536
_LEAST_PASSPHRASE = 12
_WORK_FACTOR_LOG2 = 18

# How a command asks a person; a service has nobody to ask.
_ask: ContextVar[Callable[[], str] | None] = ContextVar("passphrase of the seal", default=None)


@dataclass(frozen=True)
class SealPlan:
    """The slots that a seal shall have.

    Attributes:
        machine: KEY_FILE, HOST, TPM2, or None.
        recovery: The public recipient of the recovery site, or "".
        passphrase: Or None, or UNCHANGED.
        work_factor_log2: Of the passphrase's scrypt.
    """

    machine: str | None
    recovery: str
    passphrase: str | None = field(default=None, repr=False)
    work_factor_log2: int = _WORK_FACTOR_LOG2


@dataclass(frozen=True)
class Slots:
    """The slots that a seal has.

    Attributes:
        machine: What opens it together: KEY_FILE, HOST, TPM2, "unknown"; empty where no machine slot is there.
        recovery: Whether the MSP's recovery card does.
        passphrase: Whether a passphrase does.
    """

    machine: tuple[str, ...]
    recovery: bool
    passphrase: bool


def look(folder: Path) -> Slots:
    """Returns the slots in a folder; opens none."""
    machine: tuple[str, ...] = ()
    if (folder / MACHINE_KEY).exists():
        machine = (KEY_FILE,)
    elif (folder / MACHINE_CREDENTIAL).exists():
        machine = systemd_creds.kind_of(read_limited(folder / MACHINE_CREDENTIAL, _SLOT_BYTES)) or ("unknown",)
    return Slots(machine, (folder / RECOVERY_SLOT).exists(), (folder / PASSPHRASE_SLOT).exists())


def make(plan: SealPlan, key: age.X25519Identity) -> dict[str, bytes]:
    """Returns the files of the slots that open to `key`, by name.

    Raises:
        BadInput: Nothing at the box would open it, a recipient is none, or a passphrase is short.
        NotReady: The machine has no such key.
    """
    if plan.machine is None and plan.passphrase is None:
        raise BadInput("nothing at this box would open the seal", "keep the machine's slot, or add a passphrase first")
    secret = str(key).encode()
    files = {}
    if plan.machine == KEY_FILE:
        files[MACHINE_KEY] = secret
    elif plan.machine is not None:
        files[MACHINE_CREDENTIAL] = systemd_creds.encrypt(secret, plan.machine)
    if plan.recovery:
        files[RECOVERY_SLOT] = age.encrypt(secret, [recipient_of(plan.recovery)])
    if plan.passphrase is not None:
        if len(plan.passphrase) < _LEAST_PASSPHRASE:
            raise BadInput(f"a passphrase has at least {_LEAST_PASSPHRASE} characters, this has {len(plan.passphrase)}")
        files[PASSPHRASE_SLOT] = age.encrypt(secret, [age.ScryptRecipient(plan.passphrase, plan.work_factor_log2)])
    return files


def open_slots(folder: Path) -> age.X25519Identity:
    """Opens the first slot that can be opened here: the machine's, or else the passphrase's by asking.

    Raises:
        NotReady: Somebody must be there, or be root.
        BadBundle: A slot was changed, or is gone.
        WrongKey: The passphrase is wrong.
    """
    try:
        secret = _open_machine(folder)
        if secret is None:
            secret = _open_passphrase(folder, _asked())
        return age.X25519Identity.from_string(secret.decode())
    except (AgeError, ValueError) as error:
        raise BadBundle(f"the slots of the seal under {folder} do not open: {error}") from error


def opens_alone(folder: Path) -> bool:
    """Whether the seal has a slot that opens with nobody present."""
    return bool(look(folder).machine)


def ask_passphrase(folder: Path) -> str:
    """Asks for the passphrase of a slot; raises NotReady where nobody can be asked, WrongKey where it is another."""
    passphrase = _asked()
    _open_passphrase(folder, passphrase)
    return passphrase


def _open_passphrase(folder: Path, passphrase: str) -> bytes:
    """Opens the passphrase's slot; raises WrongKey where it is another passphrase."""
    data = read_limited(folder / PASSPHRASE_SLOT, _SLOT_BYTES)
    try:
        return age.decrypt(data, [age.ScryptIdentity(passphrase)], limit_bytes=_SLOT_BYTES)
    except age.NoMatch as error:
        raise WrongKey("the passphrase does not open the seal of this box", "type it again") from error


@contextmanager
def asking(ask: Callable[[], str]) -> Iterator[None]:
    """Lets a seal that only a passphrase opens ask for it, within the block."""
    token = _ask.set(ask)
    try:
        yield
    finally:
        _ask.reset(token)


def recipient_of(text: str) -> age.KeyRecipient:
    """Returns a public recipient; raises BadInput where the text is none."""
    try:
        return age.parse_recipient(text)
    except (AgeError, ValueError) as error:
        # The text is not repeated: it may be the secret that belongs to a recipient.
        raise BadInput(f"this is no recipient: {error}", "`lifeboat site list --json` shows them") from error


def _open_machine(folder: Path) -> bytes | None:
    try:
        return read_limited(folder / MACHINE_KEY, _SLOT_BYTES)
    except FileMissing:
        pass
    try:
        return systemd_creds.decrypt(read_limited(folder / MACHINE_CREDENTIAL, _SLOT_BYTES))
    except FileMissing:
        if (folder / PASSPHRASE_SLOT).exists():
            return None
        hint = "have the MSP open recovery.slot, or enrol an empty state with the site card (docs/box.md, The seal)"
        raise BadBundle(f"the seal's slot of this machine under {folder} is gone", hint) from None


def _asked() -> str:
    ask = _ask.get()
    if ask is None:
        raise NotReady(
            "a passphrase opens the seal of this box, and nobody is there", "lifeboat-appliance serve --attended"
        )
    return ask()
