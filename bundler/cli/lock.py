"""`lifeboat lock`."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import click

from bundler.cli.options import command
from bundler.cli.sourcing import Sourcing, profile_argument, sourcing_options
from bundler.terminal import Terminal


@click.command()
@profile_argument
@click.argument("names", nargs=-1)
@click.option(
    "--update", is_flag=True, help="Look where branches and tags stand now: of NAMES (or sources), or of all."
)
@click.option("--yes", is_flag=True, help="Take what moved without asking.")
@sourcing_options
@command
def lock(
    terminal: Terminal, *, profile: Path, names: tuple[str, ...], update: bool, yes: bool, tier: str, sourcing: Sourcing
) -> None:
    """Pin every source of PROFILE that its lock lacks; with --update show what moved, ask, and pin that instead."""
    from bundler import relock
    from bundler.lock import lock_path, read_lock, write_lock
    from bundler.profile.read import read_profile
    from bundler.work import work_folder

    if names and not update:
        raise click.UsageError("names of sources are for --update")
    if update and sourcing.offline:
        raise click.UsageError("--update looks where branches and tags stand now, which --offline forbids")
    path, read = lock_path(profile), read_profile(profile, {}, tier)
    before = read_lock(path)
    moving = relock.movable(read, before, names) if update else frozenset()
    with work_folder(sourcing.home) as work:
        sources = sourcing.sources(terminal, read, work, relock.without(before, moving))
        moved = relock.look(sources, before, moving)
        told = [line for move in moved for line in move.lines()]
        if moved and not yes:
            for line in told:
                terminal.note(line)
            click.confirm("Take this into the lock?", abort=True, err=True)
        # What did not move stays pinned: nothing else is taken than what was shown.
        after = relock.locked(replace(sources, lock=relock.without(before, [move.source for move in moved])))
    if after != before:
        write_lock(path, after)
    new = relock.added(before.pins, after.pins)
    lines = [f"pinned {source}" for source in new] + (told if yes else [])
    lines += [] if after != before else ["nothing has moved" if update else "everything is pinned"]
    value = {"lock": str(path), "changed": after != before, "new": new, "moved": [asdict(move) for move in moved]}
    terminal.result(value, [*lines, f"{len(after.pins)} sources in {path}"])
