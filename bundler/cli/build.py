"""`lifeboat plan` and `lifeboat build`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bundler.cli.options import command, repository_option
from bundler.cli.sourcing import Sourcing, profile_argument, sourcing_options
from bundler.terminal import Progress, Terminal, size

if TYPE_CHECKING:
    from bundler.embedding.model import VectorCache
    from bundler.repository.keyring import Keyring

_upstream = click.option(
    "--upstream", "upstreams", multiple=True, metavar="NAME=URL", help="Use this address for the upstream NAME."
)


@click.command()
@profile_argument
@_upstream
@sourcing_options
@command
def plan(terminal: Terminal, *, profile: Path, upstreams: tuple[str, ...], tier: str, sourcing: Sourcing) -> None:
    """Check PROFILE, fetch what it names, and show what a bundle would hold."""
    from bundler.build import planned
    from bundler.lock import lock_path, read_lock
    from bundler.profile.read import read_profile
    from bundler.work import work_folder

    read = read_profile(profile, _addresses(upstreams), tier)
    with work_folder(sourcing.home) as work:
        locked = read_lock(lock_path(profile))
        sources = sourcing.sources(terminal, read, work, locked)
        sources.local()
        fetched = sources.found()
        made = planned(sources, fetched, sources.converted(fetched), locked)
    terminal.result(asdict(made), _lines(made))


@click.command()
@profile_argument
@repository_option
@_upstream
@click.option("--volume-bytes", type=click.IntRange(1 << 24), help="Plaintext size of a full volume.  [default: 1 GiB]")
@click.option("--yes", is_flag=True, help="Build without asking.")
@click.option("--reread", is_flag=True, help="Read large files again that look unchanged since an earlier build.")
@sourcing_options
@command
def build(
    terminal: Terminal,
    *,
    profile: Path,
    repository: Path,
    upstreams: tuple[str, ...],
    tier: str,
    volume_bytes: int | None,
    yes: bool,
    reread: bool,
    sourcing: Sourcing,
) -> None:
    """Build a signed, encrypted bundle of PROFILE into the repository."""
    from bundler.build import Builder
    from bundler.embedding.vector_files import owner_of
    from bundler.format.limits import VOLUME_BYTES
    from bundler.lock import lock_path, read_lock, write_lock
    from bundler.profile.read import read_profile
    from bundler.repository.places import require_place
    from bundler.repository.publish import Publisher
    from bundler.repository.sites import NewSite
    from bundler.work import work_folder

    require_place(repository, "the repository")
    now, lock = datetime.now(UTC), lock_path(profile)
    read = read_profile(profile, _addresses(upstreams), tier)
    keyring = _ready(sourcing.keyring())
    codes: dict[str, str] = {}

    def hand_out(recovery: NewSite) -> None:
        terminal.note(recovery.card)
        codes["recovery_code"] = recovery.code

    builder = Builder(
        Publisher(repository, keyring, now), keyring, terminal, hand_out, volume_bytes or VOLUME_BYTES, reread
    )
    with work_folder(sourcing.home) as work:
        locked = read_lock(lock)
        vectors = _vectors(sourcing.cache(), keyring, terminal, owner_of(repository, read.name))
        sources = sourcing.sources(terminal, read, work, locked, keyring, vectors)
        built, settled = builder.build(sources, locked, _agree(terminal, yes=yes), now)
    if settled != locked:
        write_lock(lock, settled)
    terminal.result({**vars(built), **codes}, _outcome(built, repository))


def _ready(keyring: Keyring) -> Keyring:
    """Returns the keyring; what it or the roots lack is told before the work, not after it."""
    from bundler.repository.roots import Roots

    keyring.msp()
    Roots(keyring.home).all()
    return keyring


def _vectors(cache: Path, keyring: Keyring, terminal: Terminal, owner: str) -> VectorCache:
    from bundler.embedding.model import VectorCache
    from bundler.embedding.vector_files import VectorFiles

    def watch(texts: int) -> Progress:
        return terminal.progress(f"embedding {texts} texts", texts, "texts")

    return VectorCache(VectorFiles(cache / "vectors", owner), keyring.ledger_identity, watch)


def _addresses(upstreams: tuple[str, ...]) -> dict[str, str]:
    pairs = [text.partition("=") for text in upstreams]
    for name, mark, url in pairs:
        if not (name and mark and url):
            raise click.BadParameter(f"{name!r} is not NAME=URL", param_hint="--upstream")
    return {name: url for name, _, url in pairs}


def _agree(terminal: Terminal, *, yes: bool) -> Callable[[Any], None]:
    def ask(made: Any) -> None:
        for line in _lines(made):
            terminal.note(line)
        if not yes:
            click.confirm("Build this bundle?", abort=True, err=True)

    return ask


def _outcome(built: Any, repository: Path) -> list[str]:
    if built.changed:
        sizes = f"{size(built.new_bytes)} new of {size(built.length_bytes)} in {built.volumes} volumes"
        lines = [f"bundle {built.bundle}: {sizes}, in {repository}"]
    else:
        lines = [f"nothing changed since bundle {built.bundle}: its metadata is signed again, in {repository}"]
    lines.append(f"content {built.content_sha256}")
    lines += [f"  {line}" for line in built.selftest]
    return lines


def _lines(made: Any) -> list[str]:
    lines = [
        f"{item.state:7} {item.found.part:10} {size(item.found.length_bytes):>10}  "
        f"{item.found.licence or '-':12} {item.found.source}"
        for item in made.lines
    ]
    lines.append(f"total {size(made.source_bytes)}, about {size(made.medium_bytes)} on the medium")
    lines += [f"tier {made.tier}"] if made.tier else []
    lines += [f"vector store {store}" for store in made.stores]
    lines += made.templates
    lines += [f"embedding model {made.embedding}"] if made.embedding else []
    lines += [f"{each.found.source} is signed by {each.found.signature}" for each in made.lines if each.found.signature]
    lines += [f"the gate of licences refuses it: {line}" for line in made.refused]
    lines += [f"the build refuses it: [[vectors]] {line}" for line in made.mismatched]
    lines += [f"licences differ: {line}" for line in made.contradictions]
    lines += [f"no licence is known for {source}" for source in made.unlicensed]
    lines += [f"no licence text comes with {source}: name one with licence_file" for source in made.without_text]
    lines += made.outgoing
    return [*lines, *(f"warning: {warning}" for warning in made.warnings)]
