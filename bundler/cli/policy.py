"""`lifeboat policy`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from bundler.cli.options import command, home_option, keyring_of, passphrase_option
from bundler.format.manifest import SEQUENCE_MAX
from bundler.terminal import Terminal

_repository = click.option(
    "--repository", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True, help="Its folder."
)


@click.group()
def policy() -> None:
    """The policy of a repository: revoked bundles, epoch, and the hosts that boxes may talk to."""


@policy.command("show")
@_repository
@home_option
@command
def show(terminal: Terminal, *, repository: Path, home: Path) -> None:
    """Show the policy and when the metadata expires."""
    from bundler.repository.keyring import Keyring
    from bundler.repository.publish import Publisher

    trusted = Publisher(repository, Keyring(home, str), datetime.now(UTC)).trusted()
    found = trusted.policy
    lines = [
        f"repository {found.repository}",
        f"epoch {found.epoch}, least sequence {found.min_sequence}",
        f"revoked: {', '.join(found.revoked) or 'none'}",
        f"boxes may talk to: {', '.join(found.egress) or 'nobody'}",
    ]
    dates = {role: f"{expires:%Y-%m-%d}" for role, expires in trusted.expiries.items()}
    lines.append(f"expires: {', '.join(f'{role} {date}' for role, date in dates.items())}")
    terminal.result({**asdict(found), "expires": dates}, lines)


@policy.command("change")
@_repository
@click.option("--revoke", multiple=True, metavar="BUNDLE", help="This bundle is never installed or rolled back to.")
@click.option("--allow", multiple=True, metavar="URL", help="Boxes may talk to this origin.")
@click.option("--forbid", multiple=True, metavar="URL", help="Boxes may not any more.")
@click.option("--min-sequence", type=click.IntRange(1, SEQUENCE_MAX), help="The least sequence that may be installed.")
@click.option("--raise-epoch", is_flag=True, help="No bundle so far may be installed any more.")
@click.option("--request", type=click.Path(path_type=Path, dir_okay=False), help="Write what is to be signed here.")
@home_option
@passphrase_option
@command
def change(
    terminal: Terminal,
    *,
    repository: Path,
    revoke: tuple[str, ...],
    allow: tuple[str, ...],
    forbid: tuple[str, ...],
    min_sequence: int | None,
    raise_epoch: bool,
    request: Path | None,
    home: Path,
    passphrase_file: Path | None,
) -> None:
    """Change the policy; it takes the release key."""
    from bundler.format.errors import BadInput
    from bundler.repository.publish import Publisher
    from bundler.repository.roots import Roots
    from bundler.repository.rotation import PolicyChange, changed_policy, take_policy

    if not (revoke or allow or forbid or min_sequence or raise_epoch):
        raise click.UsageError("name what is to be changed")
    ring = keyring_of(home, passphrase_file)
    publisher = Publisher(repository, ring, datetime.now(UTC))
    with publisher.locked():
        bundles = {path.split("/")[1] for path in publisher.listed() if path.startswith("bundles/")}
        if unknown := set(revoke) - bundles:
            raise BadInput(f"the repository lists no bundle {', '.join(sorted(unknown))}", "see `lifeboat inspect`")
        wanted = PolicyChange(revoke, allow, forbid, min_sequence, raise_epoch)
        taken = take_policy(publisher, changed_policy(publisher.policy(), wanted), ring, Roots(home), request)
    for line in taken.lines:
        terminal.note(line)
    if taken.request is None:
        lines = [f"targets version {taken.version} are in force"]
    else:
        lines = [f"{taken.valid} of {taken.needed} signatures: have {taken.request} signed, then `lifeboat keys merge`"]
    terminal.result({"version": taken.version, "published": taken.request is None}, lines)


@policy.command("resign")
@_repository
@home_option
@passphrase_option
@command
def resign(terminal: Terminal, *, repository: Path, home: Path, passphrase_file: Path | None) -> None:
    """Sign the same content again, so that nothing expires, and take up newer roots."""
    from bundler.repository.publish import Publisher

    publisher = Publisher(repository, keyring_of(home, passphrase_file), datetime.now(UTC))
    with publisher.locked():
        publisher.resign()
        trusted = publisher.trusted()
    version = trusted.remembered().timestamp_version
    terminal.result(
        {"timestamp": version, "root": trusted.root_version},
        [f"timestamp version {version}, root version {trusted.root_version}"],
    )
