"""`lifeboat prune`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bundler.cli.options import command, home_option, keyring_of, passphrase_option
from bundler.terminal import Terminal, size

if TYPE_CHECKING:
    from bundler.repository.prune import Proposal


@click.command()
@click.argument("repository", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--keep",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="How many of the newest bundles that may be installed stay, beside what a site has.",
)
@click.option("--yes", is_flag=True, help="Remove without asking.")
@home_option
@passphrase_option
@command
def prune(
    terminal: Terminal, *, repository: Path, keep: int, yes: bool, home: Path, passphrase_file: Path | None
) -> None:
    """Remove old bundles of REPOSITORY, and volumes that no kept bundle uses; shows them and asks before.

    Kept are the newest bundles and whatever was copied for a site last. What boxes run goes on.
    """
    from bundler.repository.prune import prune as remove
    from bundler.repository.publish import Publisher

    keyring = keyring_of(home, passphrase_file)

    def agree(proposal: Proposal) -> None:
        for line in _lines(proposal):
            terminal.note(line)
        if not yes:
            click.confirm("Remove these?", abort=True, err=True)

    publisher = Publisher(repository, keyring, datetime.now(UTC))
    with publisher.locked():
        done = remove(publisher, keyring, keep, agree)
    terminal.result(_record(done), [_outcome(done, repository)])


def _lines(proposal: Proposal) -> list[str]:
    decision = proposal.decision
    lines = [f"stays  {kept.bundle}  {', '.join(kept.reasons)}" for kept in decision.kept]
    lines += [f"goes   {bundle}" for bundle in decision.removed]
    return [*lines, f"{proposal.freed.files} files go: {_freed(proposal)} of {size(proposal.total_bytes)}"]


def _outcome(done: Proposal, repository: Path) -> str:
    if not done.files:
        return f"nothing to remove in {repository}: every file is of a bundle that stays"
    return (
        f"{len(done.decision.removed)} bundles removed, {len(done.decision.kept)} kept: {_freed(done)} in {repository}"
    )


def _freed(proposal: Proposal) -> str:
    freed = proposal.freed
    shared = f", and {size(freed.shared_bytes)} that other repositories share" if freed.shared_bytes else ""
    return f"{size(freed.freed_bytes)} freed{shared}"


def _record(done: Proposal) -> dict[str, Any]:
    return {
        "kept": [{"bundle": kept.bundle, "reasons": list(kept.reasons)} for kept in done.decision.kept],
        "removed": list(done.decision.removed),
        "files": done.freed.files,
        "freed_bytes": done.freed.freed_bytes,
        "shared_bytes": done.freed.shared_bytes,
        "total_bytes": done.total_bytes,
    }
