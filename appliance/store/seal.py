"""The seal: what keeps the site's identity and secrets on this box unreadable to who only has its disk.

Everything is sealed under one random key, which the slots hold (`appliance.store.slots`). The slots and the sealed
files lie in one folder `STATE/keys/seals/N`, and the link `STATE/keys/seal` names the one that counts: a renewal writes
a whole new folder and takes effect by one rename. In the first layout, which still opens, all lay in `STATE/keys`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from appliance.store import slots
from appliance.store.slots import KEY_FILE, SealPlan, Slots
from bundler.files import DISK, FileLayer, exclusive, make_folder, read_limited, remove_staged, write_atomic
from bundler.format import age, canonical
from bundler.format.age.errors import AgeError
from bundler.format.errors import BadBundle, FileMissing, LifeboatError, NotReady
from bundler.format.limits import KEYS_BYTES
from bundler.format.record import LATER, from_json, to_json

_SITE, _SUFFIX = "site", ".age"
_WAIT_S = 10.0


@dataclass(frozen=True, repr=False)
class SiteSecrets:
    """What the box must never show: its identity, the secret under its reports, and the one under its versions.

    `recovery` is no secret, but nobody else may choose it: the public recipient of the MSP's recovery site, or "".
    """

    site: str
    msp: str
    repository: str
    root_sha256: str
    identity: str
    report_secret: str
    version_secret: str
    recovery: str = field(default="", metadata=LATER)


class Seal:
    """Reads and writes sealed files under `STATE/keys`.

    Args:
        keys: That folder.
        layer: Where faults can be put.
        key: The seal's key, where somebody has opened a slot already.
    """

    def __init__(self, keys: Path, layer: FileLayer = DISK, key: str = "") -> None:
        self._keys, self._layer = keys, layer
        self._link = keys / "seal"
        self._given = age.X25519Identity.from_string(key) if key else None
        self._opened: tuple[Path, age.X25519Identity] | None = None

    @property
    def enrolled(self) -> bool:
        return (self.folder / f"{_SITE}{_SUFFIX}").exists()

    @property
    def folder(self) -> Path:
        """Where the slots and the sealed files lie now."""
        return self._keys / self._link.readlink() if self._link.is_symlink() else self._keys

    @property
    def slots(self) -> Slots:
        return slots.look(self.folder)

    def key(self) -> str:
        """Opens a slot and returns the seal's key, for a process that has nobody to ask; raises what `open` does."""
        if not self.enrolled:
            raise NotReady("this box is not enrolled", "run `lifeboat-appliance install` with the site card")
        return str(self._identity(self.folder))

    def store(self, secrets: SiteSecrets, machine: str = KEY_FILE, beside: Mapping[str, bytes] | None = None) -> None:
        """Seals the secrets; makes the seal where there is none, with its slots and `beside`, by one rename."""
        document = canonical.encode(to_json(secrets))
        if self.enrolled:
            self.store_file(_SITE, document)
            return
        with self._alone():
            self._write(SealPlan(machine, secrets.recovery), {**(beside or {}), _SITE: document})

    def open(self) -> SiteSecrets:
        """Opens the secrets.

        Raises:
            NotReady: The box was never enrolled, or somebody must be there to open it.
            BadBundle: The sealed file or the slot was changed, or the slot is gone.
            WrongKey: The passphrase is wrong.
        """
        if not self.enrolled:
            raise NotReady("this box is not enrolled", "run `lifeboat-appliance install` with the site card")
        return site_secrets(self.open_file(_SITE))

    def store_file(self, name: str, data: bytes) -> None:
        """Seals one more secret of this box under a name."""
        with self._alone():
            folder = self.folder
            sealed = age.encrypt(data, [self._identity(folder).recipient])
            write_atomic(folder / f"{name}{_SUFFIX}", sealed, mode=0o600, layer=self._layer)

    def open_file(self, name: str) -> bytes:
        """Opens such a secret; raises NotReady if there is none, BadBundle if it was changed."""
        while True:
            folder = self.folder
            try:
                return self._open_in(folder, name)
            except LifeboatError:
                if self.folder == folder:  # else it was renewed in between
                    raise

    def contents(self) -> dict[str, bytes]:
        """Opens everything that is sealed, by name."""
        return {path.stem: self.open_file(path.stem) for path in sorted(self.folder.glob(f"*{_SUFFIX}"))}

    def renew(self, plan: SealPlan) -> None:
        """Seals everything under a fresh key with the slots of a plan, by one rename, and removes what was before.

        Raises:
            BadInput, NotReady: The plan cannot be; nothing has changed.
        """
        with self._alone():
            contents = self.contents()
            secrets = replace(site_secrets(contents[_SITE]), recovery=plan.recovery)
            self._write(plan, {**contents, _SITE: canonical.encode(to_json(secrets))})

    def _write(self, plan: SealPlan, contents: Mapping[str, bytes]) -> None:
        key = age.X25519Identity.generate()
        files = slots.make(plan, key)
        files |= {f"{name}{_SUFFIX}": age.encrypt(data, [key.recipient]) for name, data in contents.items()}
        numbers = [int(path.name) for path in self._keys.glob("seals/*") if path.name.isdigit()]
        folder = self._keys / "seals" / str(max(numbers, default=0) + 1)
        make_folder(folder, self._layer)
        for name, data in files.items():
            write_atomic(folder / name, data, mode=0o600, layer=self._layer)
        self._layer.replace_link(self._link, f"seals/{folder.name}")
        # A slot of before opens nothing of now; and yet what it opened is still the secrets of this box.
        self._given, self._opened = None, None
        self._remove_earlier()

    def _remove_earlier(self) -> None:
        earlier = [path for path in self._keys.glob("seals/*") if path != self.folder]
        folders = [path for path in earlier if path.is_dir() and not path.is_symlink()]
        files = [file for folder in folders for file in folder.iterdir()]
        files += [path for path in earlier if path not in folders]  # a link here is not ours, nor is where it leads
        files += [path for path in self._keys.iterdir() if path.suffix == _SUFFIX or path.name == slots.MACHINE_KEY]
        if not earlier and not files:
            return
        for path in files:
            self._layer.remove(path)
        for folder in folders:
            folder.rmdir()
        for folder in (self._keys, self.folder.parent):
            self._layer.sync_folder(folder)

    def _open_in(self, folder: Path, name: str) -> bytes:
        try:
            sealed = read_limited(folder / f"{name}{_SUFFIX}", KEYS_BYTES)
        except FileMissing:
            raise NotReady(f"there is no sealed {name} on this box") from None
        identity = self._identity(folder)
        try:
            return age.decrypt(sealed, [identity], limit_bytes=KEYS_BYTES)
        except (AgeError, ValueError) as error:
            raise BadBundle(f"the sealed {name} under {folder} does not open: {error}") from error

    def _identity(self, folder: Path) -> age.X25519Identity:
        if self._given is not None:
            return self._given
        if self._opened is None or self._opened[0] != folder:
            self._opened = folder, slots.open_slots(folder)
        return self._opened[1]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Of two that write, one waits; what a killed writer left goes."""
        with exclusive(self._keys / "seal.lock", "another command changes the seal", _WAIT_S):
            remove_staged(self._keys)
            if self._link.is_symlink():
                self._remove_earlier()  # slots that a renewal was about to remove when the power went
            yield


def site_secrets(document: bytes) -> SiteSecrets:
    """Reads the sealed document of a site; raises BadBundle where it is none."""
    return from_json(SiteSecrets, canonical.decode(document, "the sealed secrets"), "secrets")
