"""What `plan`, `build` and `lock` are given alike: a profile, its tier, and where its sources may come from."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bundler.cli.options import F, home_option, keyring_of, passphrase_option
from bundler.terminal import Terminal

if TYPE_CHECKING:
    from bundler.embedding.model import VectorCache
    from bundler.lock import Lock
    from bundler.profile.model import Profile
    from bundler.profile_sources import Sources
    from bundler.repository.keyring import Keyring

profile_argument = click.argument("profile", metavar="PROFILE", type=click.Path(path_type=Path, dir_okay=False))
tier_option = click.option("--tier", default="", metavar="NAME", help="Take this hardware tier, or its file, instead.")
_wheels = click.option(
    "--wheels",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of wheels that were fetched before.  [default: HOME/cache/wheels]",
)
_offline = click.option("--offline", is_flag=True, help="Ask no hub or index: take what HOME/cache holds.")


@dataclass(frozen=True)
class Sourcing:
    """The words of a command that say where sources come from.

    Attributes:
        wheels: Where wheels are kept, where that is not in the cache.
        offline: Whether only what is in the cache may be used.
        home: The builder's own folder: keyring, ledger, cache.
        passphrase_file: Opens the keyring; None asks on the terminal.
    """

    wheels: Path | None
    offline: bool
    home: Path
    passphrase_file: Path | None

    def keyring(self) -> Keyring:
        return keyring_of(self.home, self.passphrase_file)

    def cache(self) -> Path:
        """Returns the folder where the builder keeps what it fetched and made."""
        from bundler.work import private_cache

        return private_cache(self.home)

    def sources(
        self,
        terminal: Terminal,
        profile: Profile,
        work: Path,
        lock: Lock,
        keyring: Keyring | None = None,
        vectors: VectorCache | None = None,
    ) -> Sources:
        """Returns the sources of a profile, with the builder's caches and the tokens of its keyring.

        Args:
            terminal: Where progress is shown.
            profile: Whose sources.
            work: The private work folder.
            lock: What remote sources were before.
            keyring: One that the command has opened already: nobody is asked for a passphrase twice.
            vectors: Where vectors of earlier builds lie.
        """
        from bundler.embedding.conversions import Conversions
        from bundler.profile_sources import Sources
        from bundler.repository.hub_tokens import HubTokens

        return Sources(
            profile,
            self.cache(),
            work,
            terminal.note,
            vectors,
            Conversions(self.cache() / "converted"),
            lock,
            self.wheels,
            self.offline,
            terminal.progress,
            HubTokens(keyring or self.keyring()).open,
        )


def sourcing_options(function: F) -> Callable[..., None]:
    """Gives a command `tier` and, as `sourcing`, what says where its sources come from."""

    @tier_option
    @_wheels
    @_offline
    @home_option
    @passphrase_option
    @functools.wraps(function)
    def wrapper(
        *args: Any, wheels: Path | None, offline: bool, home: Path, passphrase_file: Path | None, **rest: Any
    ) -> None:
        function(*args, sourcing=Sourcing(wheels, offline, home, passphrase_file), **rest)

    return wrapper
