"""`lifeboat copy`."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bundler.cli.options import command, home_option, keyring_of, passphrase_option
from bundler.format.errors import BadInput
from bundler.terminal import Terminal, shown, size

if TYPE_CHECKING:
    from bundler.repository.keyring import Keyring
    from bundler.repository.oci.client import Client


@click.command()
@click.argument("source")
@click.argument("target")
@click.option("--site", "sites", multiple=True, help="Copy what this site needs; may be given again.")
@click.option("--full", is_flag=True, help="Copy every volume, also those that the site got by earlier copies.")
@click.option(
    "--layer-size",
    "layer_mib",
    type=click.IntRange(1, 2048),
    # A stop costs at most one layer: registries of wide use drop an upload that broke off (docs/registry.md).
    default=256,
    show_default=True,
    help="MiB of a layer at most, in a registry.",
)
@click.option(
    "--mount-from", default="", help="Take layers over from this NAME of the same registry where it has them."
)
@home_option
@passphrase_option
@command
def copy(
    terminal: Terminal,
    *,
    source: str,
    target: str,
    sites: tuple[str, ...],
    full: bool,
    layer_mib: int,
    mount_from: str,
    home: Path,
    passphrase_file: Path | None,
) -> None:
    """Copy the newest bundle from SOURCE to TARGET; a copy that was stopped goes on where it was.

    SOURCE is a repository and TARGET a medium, or one of them is oci:HOST/NAME:TAG, in a registry. From a repository
    the sites are named; from a registry comes all that was pushed, for the sites that are named or for all of them.
    """
    from bundler.registries.reference import is_reference

    keyring = keyring_of(home, passphrase_file)
    if is_reference(source) and is_reference(target):
        raise BadInput("both are in a registry", "`skopeo copy` or the registry's own replication does that")
    if full and (is_reference(source) or is_reference(target)):
        raise BadInput("--full is for a medium", "leave it out: in a registry every volume lies in any case")
    if mount_from and not is_reference(target):
        raise BadInput("--mount-from is for a push to a registry", "leave it out")
    if is_reference(source):
        _pull(terminal, source, Path(target), sites, home)
    elif not Path(source).is_dir():
        raise click.UsageError(f"{source} does not exist, or is no folder: name a repository, or oci:HOST/NAME:TAG")
    elif not sites:
        raise click.UsageError("--site NAME is missing; it may be given again: files of other sites stay here")
    elif is_reference(target):
        _push(terminal, Path(source), target, sites, layer_mib, mount_from, keyring)
    else:
        _copy(terminal, Path(source), Path(target), sites, keyring, full=full)


def _copy(
    terminal: Terminal,
    repository: Path,
    medium: Path,
    sites: tuple[str, ...],
    keyring: Keyring,
    *,
    full: bool,
) -> None:
    from bundler.repository.copy import copy_for_sites
    from bundler.repository.places import require_place
    from bundler.repository.publish import Publisher
    from bundler.repository.software import installer_sha256

    require_place(medium, "a copy")
    now = datetime.now(UTC)
    publisher = Publisher(repository, keyring, now)
    with publisher.locked():
        copies = copy_for_sites(publisher, keyring, sites, medium, terminal, now=now, full=full)
        script = installer_sha256(publisher.trusted())
    lines = []
    for done in copies:
        lines.append(
            f"{done.site}: bundle {done.bundle}, {done.files} files, {size(done.written_bytes)} written to {medium}"
        )
        if done.left_out:
            terminal.warn(
                f"{medium} does not hold the whole bundle: {len(done.left_out)} volumes "
                f"({size(done.left_out_bytes)}) are left out, which earlier copies brought to {done.site}"
            )
            terminal.note("hint: --full copies them too, for a new box or a second stick")
    value = {"copies": [asdict(done) for done in copies], "installer_sha256": script}
    terminal.result(value, [*lines, *_slip(script)])


def _push(
    terminal: Terminal,
    repository: Path,
    target: str,
    sites: tuple[str, ...],
    layer_mib: int,
    mount_from: str,
    keyring: Keyring,
) -> None:
    from bundler.format.limits import MIB
    from bundler.registries.reference import parse_name
    from bundler.repository.oci.layers import Parts
    from bundler.repository.oci.push import How, push
    from bundler.repository.publish import Publisher
    from bundler.repository.software import installer_sha256

    how = How(Parts(keyring.home / "layers", layer_mib * MIB), parse_name(mount_from) if mount_from else "")
    now = datetime.now(UTC)
    publisher = Publisher(repository, keyring, now)
    with closing(_client(terminal, target, "pull,push", mount_from)) as client, publisher.locked():
        done = push(publisher, sites, client, terminal, now=now, how=how)
        script = installer_sha256(publisher.trusted())
    told = f"bundle {done.bundle} for {', '.join(done.sites)}: {done.files} files in {done.layers} layers, "
    told += f"{size(done.sent_bytes)} sent, {size(done.there_bytes)} lay there"
    terminal.result({**asdict(done), "installer_sha256": script}, [done.reference, told, *_slip(script)])


def _pull(terminal: Terminal, source: str, medium: Path, sites: tuple[str, ...], home: Path) -> None:
    from bundler.inspection import NO_ROOT
    from bundler.repository.oci.pull import pull
    from bundler.repository.places import require_place
    from bundler.repository.roots import Roots

    require_place(medium, "a copy")
    roots = Roots(home)
    root = roots.all()[0] if roots.exist else None
    if root is None:
        terminal.warn(NO_ROOT)
    with closing(_client(terminal, source, "pull", "")) as client:
        done = pull(client, medium, terminal, root=root, now=datetime.now(UTC), sites=sites)
    for warning in done.warnings:
        terminal.warn(warning)
    told = f"bundle {done.bundle} for {', '.join(done.sites)}: {done.files} files, "
    told += f"{size(done.fetched_bytes)} fetched, {size(done.kept_bytes)} lay here, in {medium}"
    terminal.result(asdict(done), [done.reference, told])


def _client(terminal: Terminal, text: str, actions: str, mount_from: str) -> Client:
    from bundler.patience import Patience
    from bundler.registries.logins import find
    from bundler.registries.reference import parse
    from bundler.registries.wire import Wire
    from bundler.repository.oci.client import Client

    reference = parse(text)
    if "push" in actions and reference.digest:
        raise BadInput(f"{text} names a digest: what is pushed has its own", "name a tag")
    scopes = [f"repository:{reference.name}:{actions}", *([f"repository:{mount_from}:pull"] if mount_from else [])]
    login = find(reference.host, reference.name, os.environ, Path.home())
    patience = Patience(told=lambda text: terminal.note(shown(text)))
    return Client(reference, Wire(reference.origin, login, tuple(scopes)), patience)


def _slip(script: str) -> list[str]:
    # The delivery slip: it must not travel on the medium, which could then vouch for itself.
    head = "for the slip, which goes apart from the medium: install.sh has the SHA-256"
    return [head, f"  {script}"] if script else []
