"""Where fetching may read and write, and what was pinned before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bundler.lock import Pin
from bundler.terminal import Progress, shown


@dataclass(frozen=True)
class Place:
    """The folders of a build, and the pins of its lock.

    Attributes:
        base: The profile's folder.
        cache: HOME/cache: each kind of source has a folder of its own below it.
        wheels: Where wheels are kept between builds.
        work: The private work folder of this build.
        pins: What the lock pins, by source text: a branch that moved is taken where it was.
        offline: Whether only what is in the cache may be used.
        watch: Makes a progress line of a label and a total in bytes, or None.
        token: Returns the token that the builder keeps for a hub's address, "" for none; it may ask for a passphrase.
        say: Hears what is waited for.
        attached: Whether what a registry holds about a file is wanted with it: not where the file does not travel.
    """

    base: Path
    cache: Path
    wheels: Path
    work: Path
    pins: Mapping[str, Pin] = field(default_factory=dict)
    offline: bool = False
    watch: Callable[[str, int], Progress] | None = None
    token: Callable[[str], str] | None = None
    say: Callable[[str], None] | None = None
    attached: bool = True

    def tell(self, text: str) -> None:
        """Says what is waited for, to who hears it; foreign words in it steer no terminal."""
        if self.say is not None:
            self.say(shown(text))
