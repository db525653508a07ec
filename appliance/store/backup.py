"""A backup of a box's state but its volumes: for the MSP's recovery site, and back onto an empty state.

The box that writes it cannot read it. The MSP opens it with the recovery card and hands it on to the site's own key
(`lifeboat site restore`), so that the technician needs the site card alone and no recovery key comes near a customer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from appliance.store import slots
from appliance.store.layout import StateLayout
from appliance.store.owner import as_root
from appliance.store.seal import Seal, SiteSecrets, site_secrets
from appliance.store.trust import TrustStore
from bundler.files import DISK, FileLayer, read_limited, write_atomic
from bundler.format import age, paths
from bundler.format.backup import BACKUP_BYTES, BACKUP_FILE_BYTES, Backup, open_backup, seal_backup
from bundler.format.errors import BadBundle, BadInput, NotReady, WrongKey
from bundler.terminal import Terminal

_SEALED, _TRUST, _TOKENS, _SITE = "sealed/", "trust/", "tokens.json", "site"


@dataclass(frozen=True, repr=False)
class Restored:
    """What a backup brings back.

    Attributes:
        secrets: Of the site, with the secret under its versions as it was.
        sealed: What else was sealed, by name: keys of providers, the box's CA.
        trust: The memory of the metadata that was accepted.
        tokens: The file of tokens, or None.
    """

    secrets: SiteSecrets
    sealed: Mapping[str, bytes]
    trust: Mapping[str, bytes]
    tokens: bytes | None


@dataclass(frozen=True)
class BackedUp:
    """What a backup holds: names of its files, its length, and for how many recipients it is."""

    files: tuple[str, ...]
    length_bytes: int
    recipients: int


def back_up(
    layout: StateLayout, path: Path, now: datetime, also_to: Sequence[str] = (), layer: FileLayer = DISK
) -> BackedUp:
    """Writes a backup to `path`, whole or not at all; a file there is replaced.

    Args:
        layout: The state.
        path: The file.
        now: The time of making.
        also_to: Further public recipients.
        layer: Where faults can be put.

    Raises:
        NotReady: The box is not enrolled, or nobody is known who could open the backup.
        BadInput: A recipient is none.
    """
    seal = Seal(layout.keys)
    contents = seal.contents() if seal.enrolled else {}
    secrets = seal.open()
    recipients = [slots.recipient_of(text) for text in (*([secrets.recovery] if secrets.recovery else ()), *also_to)]
    if not recipients:
        raise NotReady("this box knows no recovery site that could open a backup", "name a recipient with --to")
    files = {f"{_SEALED}{name}": data for name, data in contents.items()}
    files |= {f"{_TRUST}{name}": data for name, data in TrustStore(layout.trust, layer).files().items()}
    if layout.tokens.exists():
        files[_TOKENS] = read_limited(layout.tokens, BACKUP_BYTES)
    recipient = str(age.parse_identity(secrets.identity).recipient)
    made = now.isoformat(timespec="seconds")
    backup = Backup.of(secrets.repository, secrets.site, recipient, made, files)
    data = seal_backup(backup, secrets.report_secret, recipients)
    with as_root():  # the file lies where root wants it
        write_atomic(path, data, mode=0o600, layer=layer)
    return BackedUp(tuple(sorted(files)), len(data), len(recipients))


def restorer(path: Path, terminal: Terminal) -> Callable[[SiteSecrets, bool], Restored | None]:
    """Returns what opens the backup in a file with the secrets that a site card gave, for an install.

    It is called with those secrets and whether the state is empty; a state that has taken over this very backup
    already goes on without it, and any other raises BadInput.
    """

    def restore(secrets: SiteSecrets, fresh: bool) -> Restored | None:  # noqa: FBT001 - the one thing it is told
        restored = read_backup(read_limited(path, BACKUP_FILE_BYTES), secrets)
        if fresh:
            return restored
        if restored.secrets.version_secret != secrets.version_secret:
            fact = f"this state is enrolled already, as site {secrets.site}"
            raise BadInput(fact, "a backup is restored onto an empty --state")
        terminal.warn("this state has taken over the backup already: nothing of it is written again")
        return None

    return restore


def read_backup(data: bytes, secrets: SiteSecrets) -> Restored:
    """Opens a backup that was handed on to this site.

    Args:
        data: The file.
        secrets: As first contact gives them.

    Raises:
        WrongKey: It is for the recovery site still, or of another site or repository.
        BadBundle: It is damaged, or no box of this site made it.
    """
    try:
        backup = open_backup(data, age.parse_identity(secrets.identity))
    except WrongKey as error:
        raise WrongKey(
            f"the backup is not for site {secrets.site} of repository {secrets.repository[:16]}",
            "have the MSP hand it on: lifeboat site restore BACKUP OUT --site NAME --repository REPO",
        ) from error
    if (backup.repository, backup.site) != (secrets.repository, secrets.site):
        raise WrongKey(f"the backup is of site {backup.site}, repository {backup.repository[:16]}")
    backup.check(secrets.report_secret)
    files = backup.contents()
    sealed = _under(_SEALED, files)
    for name in sealed:  # the box that wrote it may have been in other hands, and this becomes a path
        if "/" in paths.check(name):
            raise BadBundle(f"the backup holds a secret with a name that is not allowed: {name[:40]!r}")
    try:
        before = site_secrets(sealed.pop(_SITE))
    except KeyError:
        raise BadBundle("the backup holds no secrets of a site") from None
    kept = replace(secrets, version_secret=before.version_secret, recovery=before.recovery)
    return Restored(kept, sealed, _under(_TRUST, files), files.get(_TOKENS))


def take_over(layout: StateLayout, restored: Restored | None, layer: FileLayer) -> None:
    """Writes what a backup brings back to a state that has no seal yet; without one there is nothing to do.

    The seal comes last (`Seal.store`): until then the box is not enrolled, and the same command does all of it again.
    """
    if restored is None:
        return
    TrustStore(layout.trust, layer).replace(restored.trust)
    if restored.tokens is not None:
        write_atomic(layout.tokens, restored.tokens, mode=0o600, layer=layer)


def _under(folder: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {name.removeprefix(folder): data for name, data in files.items() if name.startswith(folder)}
