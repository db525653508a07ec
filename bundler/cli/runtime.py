"""`lifeboat runtime`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from bundler.cli.options import command, home_option, keyring_of, passphrase_option
from bundler.terminal import Terminal, size


@click.command()
@click.argument("wheels", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--repository", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True, help="Its folder."
)
@click.option("--withdraw", metavar="VERSION", help="Give boxes this program no more; those that run it go on.")
@click.option("--request", type=click.Path(path_type=Path, dir_okay=False), help="Write what is to be signed here.")
@home_option
@passphrase_option
@command
def runtime(
    terminal: Terminal,
    *,
    wheels: Path | None,
    repository: Path,
    withdraw: str | None,
    request: Path | None,
    home: Path,
    passphrase_file: Path | None,
) -> None:
    """Put the program in the folder WHEELS (of scripts/make_runtime) into a repository; it takes the release key."""
    from bundler.capture.runtime import read_wheelhouse
    from bundler.files import DISK
    from bundler.repository.publish import Publisher
    from bundler.repository.roots import Roots
    from bundler.repository.software import add_runtime, installer_sha256, withdraw_runtime

    if (wheels is None) == (withdraw is None):
        raise click.UsageError("name a folder of wheels, or a version to --withdraw")
    house = read_wheelhouse(wheels) if wheels is not None else None
    ring = keyring_of(home, passphrase_file)
    publisher = Publisher(repository, ring, datetime.now(UTC))
    with publisher.locked():
        if house is not None:
            done = add_runtime(publisher, house, ring, Roots(home), request, DISK)
        else:
            done = withdraw_runtime(publisher, str(withdraw), ring, Roots(home), request)
        script = installer_sha256(publisher.trusted())
    lines = [f"the newest program of {repository} is {done.version or 'none'}"]
    if house is not None:
        lines.append(f"{len(house.files) - 1} wheels, {size(house.length_bytes)}")
    if done.taken is None:
        lines.append("nothing new: it is listed already")
    elif done.taken.request is not None:
        lines = [
            f"{done.taken.valid} of {done.taken.needed} signatures: have {request} signed, then `lifeboat keys merge`"
        ]
    lines += [f"program {version} is listed no more" for version in done.dropped if done.taken and not request]
    lines += [f"install.sh has the SHA-256 {script}"] if script else []
    value = {"version": done.version, "changed": done.taken is not None, "dropped": done.dropped}
    terminal.result({**value, "installer_sha256": script}, lines)
