"""`lifeboat copy`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from bundler.cli.options import command, home_option, keyring_of, passphrase_option
from bundler.terminal import Terminal, size


@click.command()
@click.argument("repository", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("medium", type=click.Path(path_type=Path, file_okay=False))
@click.option("--site", "sites", multiple=True, required=True, help="Copy what this site needs; may be given again.")
@click.option("--full", is_flag=True, help="Copy every volume, also those that the site got by earlier copies.")
@home_option
@passphrase_option
@command
def copy(
    terminal: Terminal,
    *,
    repository: Path,
    medium: Path,
    sites: tuple[str, ...],
    full: bool,
    home: Path,
    passphrase_file: Path | None,
) -> None:
    """Copy the newest bundle of REPOSITORY to MEDIUM; a copy that was stopped goes on where it was."""
    from bundler.repository.copy import copy_for_sites
    from bundler.repository.publish import Publisher
    from bundler.repository.software import installer_sha256

    keyring = keyring_of(home, passphrase_file)
    now = datetime.now(UTC)
    publisher = Publisher(repository, keyring, now)
    with publisher.locked():
        copies = copy_for_sites(publisher, keyring, sites, medium, terminal, now=now, full=full)
        script = installer_sha256(publisher.trusted())
    lines = []
    for done in copies:
        lines.append(f"{done.site}: bundle {done.bundle}, {done.files} files, {size(done.written_bytes)} written")
        if done.left_out:
            terminal.warn(
                f"{medium} does not hold the whole bundle: {len(done.left_out)} volumes "
                f"({size(done.left_out_bytes)}) are left out, which earlier copies brought to {done.site}"
            )
            terminal.note("hint: --full copies them too, for a new box or a second stick")
    if script:
        # The delivery slip: it must not travel on the medium, which could then vouch for itself.
        lines += ["for the slip, which goes apart from the medium: install.sh has the SHA-256", f"  {script}"]
    terminal.result({"copies": [asdict(done) for done in copies], "installer_sha256": script}, lines)
