"""`lifeboat copy`."""

from __future__ import annotations

from dataclasses import asdict, replace
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
    from bundler.repository.copy import copy_for_site
    from bundler.repository.ledger import read_ledger, write_ledger
    from bundler.repository.publish import Publisher

    keyring = keyring_of(home, passphrase_file)
    publisher = Publisher(repository, keyring, datetime.now(UTC))
    results, lines = [], []
    with publisher.locked():
        trusted = publisher.trusted()
        for name in sites:
            ledger = read_ledger(keyring, trusted.policy.repository)
            site = ledger.site(name)
            done = copy_for_site(repository, trusted, name, () if full else site.delivered, medium, terminal)
            delivered = tuple(dict.fromkeys((*site.delivered, done.bundle)))
            write_ledger(keyring, ledger.with_site(replace(site, delivered=delivered)))
            results.append({"site": name, **asdict(done)})
            lines.append(f"{name}: bundle {done.bundle}, {done.files} files, {size(done.written_bytes)} written")
            if done.left_out:
                lines.append(f"  {len(done.left_out)} volumes left out, copied for {name} before (--full copies them)")
    terminal.result({"copies": results}, lines)
