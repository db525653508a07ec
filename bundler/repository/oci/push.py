"""Pushes a repository to a registry, for the sites that are named: only what the registry lacks, the manifest last."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO

from bundler.format.errors import BadBundle, BadInput, TooOld
from bundler.format.trust.medium import load_repository
from bundler.repository.oci.artifact import EMPTY, Artifact, decode, encode
from bundler.repository.oci.client import Client
from bundler.repository.oci.layers import Layer, Parts, layers, opened
from bundler.repository.oci.streams import OnBytes, each
from bundler.repository.publish import Publisher
from bundler.repository.selection import content_files, metadata_files, newest, site_files
from bundler.terminal import Stage, Terminal, size

_READ_BYTES_S, _SEND_BYTES_S = 5e8, 2e7  # guesses, until it is seen


@dataclass(frozen=True)
class Pushed:
    """What a push did.

    Attributes:
        reference: With the digest of the manifest.
        bundle: The newest that may be installed.
        sites: Whose files the artifact holds.
        files, layers: Their numbers; a file that is larger than a layer has several.
        sent_bytes: Went to the registry.
        there_bytes: Lay there before.
    """

    reference: str
    bundle: str
    sites: tuple[str, ...]
    files: int
    layers: int
    sent_bytes: int
    there_bytes: int


@dataclass(frozen=True)
class How:
    """How to push.

    Attributes:
        parts: Cuts files into layers.
        mount_from: Another repository of the registry, whose layers are taken over where it has them; "" for none.
    """

    parts: Parts
    mount_from: str = ""


def push(
    publisher: Publisher, sites: Sequence[str], client: Client, terminal: Terminal, *, now: datetime, how: How
) -> Pushed:
    """Pushes the newest bundle that may be installed, and what the sites need to take it.

    The caller holds the repository's lock. The ledger is left alone: what lies in a registry has reached no site yet.

    Args:
        publisher: Of the repository.
        sites: Their names; the files of other sites stay here.
        client: Of the registry.
        terminal: Progress.
        now: The clock.
        how: See `How`.

    Raises:
        BadInput: There is no such site, no bundle that may be installed, or the tag holds another repository.
        TooOld: The tag holds a newer state of this repository.
        SourceFailed: The registry does not take it; what it has taken is not sent again.
        BadBundle: The repository is damaged.
    """
    trusted, folder = publisher.trusted(), publisher.folder
    # A reader who starts where a new box does must be able to take it.
    load_repository(folder, root=publisher.first_root(), repository=None, now=now, remembered=None)
    bundle = newest(folder, trusted)
    selected = {file.path: file for file in content_files(trusted, bundle)}
    for site in sites:
        selected |= {file.path: file for file in site_files(folder, trusted, site)}
    selected |= {file.path: file for file in metadata_files(folder, trusted)}
    version = trusted.remembered().timestamp_version
    _check_tag(client, trusted.policy.repository, version)
    total = sum(file.target.length for file in selected.values())
    stages = [
        Stage("reading", total / _READ_BYTES_S, total),
        Stage(f"pushing {size(total)}", total / _SEND_BYTES_S, total),
    ]
    with terminal.stages(stages) as progress:
        stored = [how.parts.of(folder, file, progress.advance) for file in selected.values()]
        created = trusted.made.isoformat(timespec="seconds")
        manifest = encode(Artifact(tuple(stored), trusted.policy.repository, version), created)
        progress.next_stage()
        sent = _send(client, how.mount_from, layers(folder, stored), progress.advance)
    digest = client.put_manifest(manifest)
    return Pushed(
        str(client.reference.at(digest)),
        bundle.bundle,
        tuple(sites),
        len(stored),
        sum(len(file.blobs) for file in stored),
        sent,
        total - sent,
    )


def _check_tag(client: Client, repository: str, version: int) -> None:
    """Refuses a tag that holds something else. It rests on the manifest's own word: whoever writes there may lie."""
    found = client.manifest()
    if found is None:
        return
    try:
        held = decode(found[0])
    except BadBundle as error:
        raise BadInput(f"{client.reference} holds something else: {error.fact}", "name another tag") from error
    if held.repository != repository:
        raise BadInput(f"{client.reference} holds another repository", "name another tag: one customer, one name")
    if held.timestamp > version:
        raise TooOld(
            f"{client.reference} holds timestamp {held.timestamp} of this repository, this folder has {version}",
            "push from the folder that was signed last, or name another tag",
        )


def _send(client: Client, mount_from: str, found: list[Layer], on_bytes: OnBytes) -> int:
    """Sends what the registry lacks; returns the bytes."""
    if not client.has(EMPTY):
        client.put(EMPTY, lambda: nullcontext(BytesIO(b"{}")))

    def one(layer: Layer, tell: OnBytes) -> int:
        if client.has(layer.blob) or (mount_from and client.mount(layer.blob, mount_from)):
            tell(layer.blob.length_bytes)
            return 0
        client.put(layer.blob, lambda: opened(layer, tell))
        return layer.blob.length_bytes

    return each(one, found, on_bytes)
