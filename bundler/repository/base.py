"""Volumes of a base repository inside a customer's: hard-linked, so that 300 customers store one model once."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from bundler.files import FileLayer, make_folder, staged
from bundler.format import paths
from bundler.format.bundle import open_bundle
from bundler.format.errors import BadInput
from bundler.format.manifest import Volume
from bundler.format.trust.descriptors import newest_descriptor
from bundler.format.trust.medium import check_file, load_repository
from bundler.format.trust.verify import TargetFile
from bundler.repository.keyring import Keyring
from bundler.repository.ledger import read_ledger
from bundler.repository.reuse import Earlier

_NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK)


def read_base(folder: Path, root: bytes, keyring: Keyring, now: datetime) -> tuple[Earlier, dict[str, str]]:
    """Opens the newest bundle of a base repository of the same MSP.

    Args:
        folder: The base repository.
        root: The root that the customer's repository trusts: it is the same in every repository of an MSP.
        keyring: Its ledger knows the base's identities.
        now: The clock.

    Returns:
        The bundle, and the identities of its volumes by recipient.

    Raises:
        BadInput: The base holds no bundle, or this builder did not make it.
        BadBundle, UnknownRoot: The base is damaged, or another MSP's.
    """
    trusted = load_repository(folder, root=root, repository=None, now=now, remembered=None)
    descriptor = newest_descriptor(folder, trusted)
    if descriptor is None:
        raise BadInput(f"the base {folder} holds no bundle", "build the base first")
    identities = read_ledger(keyring, trusted.policy.repository).identities
    if descriptor.recipient not in identities:
        raise BadInput(f"this builder has no keys of the base {folder}", "build both with the same LIFEBOAT_HOME")
    with open_bundle(folder, descriptor, identities) as bundle:
        earlier = Earlier(descriptor, bundle.index)
    used = {volume.recipient for volume in descriptor.volumes}
    return earlier, {recipient: secret for recipient, secret in identities.items() if recipient in used}


def link_volumes(base: Path, folder: Path, volumes: Sequence[Volume], layer: FileLayer) -> None:
    """Puts volumes of the base into the repository under the same path; what is there is left.

    Raises:
        BadBundle, FileMissing: A volume of the base is not what was signed; nothing of it appears here.
    """
    for volume in volumes:
        target = folder / volume.path
        if target.exists():
            continue
        source = paths.inside(base, volume.path)
        check_file(base, volume.path, TargetFile(volume.length_bytes, volume.sha256))
        make_folder(target.parent, layer)
        try:
            os.link(source, target)
            layer.sync_folder(target.parent)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            with source.open("rb") as whole, staged(target, layer=layer) as copy:
                shutil.copyfileobj(whole, copy, 1 << 20)
