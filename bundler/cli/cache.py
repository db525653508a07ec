"""`lifeboat cache list|clear|prune`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from bundler.cli.options import command, home_option
from bundler.terminal import Terminal, size


@click.group()
def cache() -> None:
    """What builds keep in HOME/cache: downloads, conversions, vectors, chat templates."""


@cache.command("list")
@home_option
@command
def list_cache(terminal: Terminal, *, home: Path) -> None:
    """Show each part of the cache, and its size."""
    from bundler.cache import parts

    found = parts(home)
    lines = [f"{part.name:10} {size(part.length_bytes):>10}  {part.files:6} files  {part.holds}" for part in found]
    total = sum(part.length_bytes for part in found)
    terminal.result({"parts": [asdict(part) for part in found], "total_bytes": total}, [*lines, f"total {size(total)}"])


@cache.command()
@click.argument("names", metavar="PART...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Remove without asking.")
@home_option
@command
def clear(terminal: Terminal, *, names: tuple[str, ...], yes: bool, home: Path) -> None:
    """Remove parts of the cache by name; the next build fetches or makes them again.

    What a hub or a registry no longer offers can not be fetched again, and without `templates` the next build of a
    profile is silent on how the chat templates of its models changed.
    """
    from bundler.cache import check_names, missed
    from bundler.cache import clear as remove

    check_names(names)
    lost = missed(names)
    for line in lost:
        terminal.warn(line)
    if not yes:
        click.confirm(f"Remove {', '.join(names)} of {home / 'cache'}?", abort=True, err=True)
    freed = remove(home, names)
    told = {"cleared": list(names), "freed_bytes": freed, "missed": list(lost)}
    terminal.result(told, [f"{size(freed)} freed in {home / 'cache'}"])


@cache.command()
@click.option(
    "--keep-days", type=click.IntRange(2), required=True, help="Keep what was used within so many days, 2 at least."
)
@click.option("--yes", is_flag=True, help="Remove without asking.")
@home_option
@command
def prune(terminal: Terminal, *, keep_days: int, yes: bool, home: Path) -> None:
    """Remove downloads, conversions and vectors that no build has used for long; chat templates stay.

    What a hub or a registry no longer offers can not be fetched again.
    """
    from bundler.cache import prune as remove
    from bundler.cache import unused

    now = datetime.now(UTC)
    if (found := unused(home, keep_days, now)) and not yes:
        length = sum(path.lstat().st_size for path in found)
        asked = f"Remove {len(found)} files ({size(length)}) that no build has used for {keep_days} days?"
        click.confirm(asked, abort=True, err=True)
    files, freed = remove(home, keep_days, now)
    terminal.result({"freed_bytes": freed, "files": files}, [f"{size(freed)} freed in {home / 'cache'}"])
