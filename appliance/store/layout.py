"""Where things lie under STATE. Only path arithmetic."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bundler.files import make_folder
from bundler.format.errors import BadInput

_SOCKET_PATH_BYTES = 107  # unix(7): sun_path, less its NUL
_SOCKET_NAME_BYTES = len("/prove-01234567/01234567.sock")


@dataclass(frozen=True)
class StateLayout:
    """The folders of one box's state.

    Attributes:
        root: STATE itself, readable by the box's user alone.
    """

    root: Path

    @property
    def repository(self) -> Path:
        """Volumes as they travelled: the same ciphertext."""
        return self.root / "repository"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def trust(self) -> Path:
        return self.root / "trust"

    @property
    def versions(self) -> Path:
        return self.root / "versions"

    @property
    def current(self) -> Path:
        """The one symbolic link that says which version serves."""
        return self.root / "current"

    @property
    def following(self) -> Path:
        """The link to a version that waits to be proved by what serves; it becomes `current` by one rename."""
        return self.root / "next"

    @property
    def boots(self) -> Path:
        """How often the serving version was started without becoming healthy."""
        return self.root / "boots.json"

    @property
    def finished(self) -> Path:
        """Which volumes need not be read again to know that they are whole."""
        return self.repository / "finished.json"

    @property
    def attempt(self) -> Path:
        """The version that is being proved; there only while that goes on."""
        return self.root / "attempt.json"

    @property
    def tokens(self) -> Path:
        return self.root / "tokens.json"

    @property
    def quotas(self) -> Path:
        """What tokens used today."""
        return self.root / "quotas.json"

    @property
    def gateway(self) -> Path:
        """What the gateway remembers of the providers; no key is in it."""
        return self.root / "gateway.json"

    @property
    def pin(self) -> Path:
        """What the box is pinned to; there only while somebody pinned it."""
        return self.root / "pin.json"

    @property
    def journal(self) -> Path:
        """Accepted work that outlives the serving process; its payloads are sealed."""
        return self.root / "journal.db"

    @property
    def jobs(self) -> Path:
        """Requests that nobody waits for, and their answers; all of them are sealed."""
        return self.root / "jobs.db"

    @property
    def jobs_lock(self) -> Path:
        """Locked by the one that works on them."""
        return self.run / "jobs.lock"

    @property
    def cache(self) -> Path:
        """Answers that may be given again; all of them are sealed, and none is needed."""
        return self.root / "cache.db"

    @property
    def working(self) -> Path:
        """Locked by the one that works on what the journal holds."""
        return self.run / "journal.lock"

    @property
    def run(self) -> Path:
        """Sockets and locks; nothing in it outlives a boot."""
        return self.root / "run"

    @property
    def nightly(self) -> Path:
        """What the last nightly look found."""
        return self.root / "nightly.json"

    @property
    def images(self) -> Path:
        """What became of the images of the serving bundle."""
        return self.root / "images.json"

    @property
    def no_images(self) -> Path:
        """Is there while the container engines are to be left alone, as was said last."""
        return self.root / "no-images"

    @property
    def serving(self) -> Path:
        """Locked by the supervisor that serves this state."""
        return self.run / "serve.lock"

    def version(self, number: int) -> Path:
        return self.versions / str(number)

    def make(self) -> None:
        """Makes the folders, closed to other users; raises BadInput where sockets under the path could not be bound."""
        longest = len(os.fsencode(self.run.absolute())) + _SOCKET_NAME_BYTES
        if longest > _SOCKET_PATH_BYTES:
            excess = longest - _SOCKET_PATH_BYTES
            raise BadInput(
                f"the path of the state is {excess} bytes too long for Unix sockets", "use a shorter --state"
            )
        for folder in (self.root, self.repository, self.keys, self.trust, self.versions, self.run):
            make_folder(folder)
            folder.chmod(0o700)
