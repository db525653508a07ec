"""The key ceremony played with throw-away keys: everything that `init` and a rotation do, and nothing is kept."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from bundler.format.bundle import open_bundle
from bundler.format.errors import BadBundle
from bundler.format.service import LadderSpec, LimitsSpec, Service
from bundler.format.site import open_enrolment, open_keys
from bundler.format.trust.descriptors import newest_descriptor
from bundler.repository.cards import key_card, read_secret_lines
from bundler.repository.ceremony import make_keyring
from bundler.repository.keyring import ROLES, Keyring
from bundler.repository.publish import Publisher
from bundler.repository.roots import Change, Roots, changed_root
from bundler.repository.rotation import take_root
from bundler.repository.sites import add_site
from bundler.repository.survey import Captured
from bundler.repository.write import BundleWriter
from bundler.terminal import Terminal

_CONTENT = b"rehearsal"
_QUICK = 12  # scrypt work factor: these keys protect nothing
_SERVICE = Service(
    "rehearsal", "", (), None, (), (), (), (), LadderSpec((), (), (), "", "", ""), LimitsSpec(1, 1, 1), None, ()
)


def rehearse(name: str, now: datetime, say: Callable[[str], None]) -> int:
    """Plays the ceremony in a temporary folder that is removed; returns the number of steps that held.

    Raises:
        LifeboatError: A step did not hold, which is a fault of this program or this machine.
    """
    with tempfile.TemporaryDirectory(prefix="lifeboat-rehearsal-") as folder:
        return _Rehearsal(name, Path(folder), now, say).play()


class _Rehearsal:
    def __init__(self, name: str, folder: Path, now: datetime, say: Callable[[str], None]) -> None:
        self._name, self._folder, self._now, self._say = f"REHEARSAL {name}", folder, now, say
        self._keyring = Keyring(folder / "home", lambda: "rehearsal")
        self._publisher = Publisher(folder / "repository", self._keyring, now)

    def play(self) -> int:
        steps = (self._make_keys, self._lose_the_root_key, self._publish, self._deliver, self._replace_the_refresh_key)
        for number, step in enumerate(steps, 1):
            self._say(f"{number}. {step()}")
        return len(steps)

    def _make_keys(self) -> str:
        make_keyring(self._keyring, Roots(self._keyring.home), self._name, self._now, _QUICK)
        return f"made the keys {', '.join(ROLES)} and signed root version 1"

    def _lose_the_root_key(self) -> str:
        """Removes the key's file and types it back from its card."""
        public, path = self._keyring.public("root"), self._keyring.folder / "root.key"
        card = key_card(self._name, "root", str(path), public.keyid, self._keyring.sealed("root"))
        self._say(card)
        path.unlink()
        self._keyring = Keyring(self._keyring.home, lambda: "rehearsal")
        self._keyring.restore("root", read_secret_lines(card))
        self._publisher = Publisher(self._folder / "repository", self._keyring, self._now)
        return "lost the root key and read it back from its card"

    def _publish(self) -> str:
        self._publisher.create()
        return f"made a repository with its first bundle {self._write()}"

    def _deliver(self) -> str:
        """Opens the bundle with nothing but the site code."""
        repository = self._publisher.policy().repository
        site = add_site(self._publisher, self._keyring, repository, "rehearsal", work_factor_log2=_QUICK)
        self._say(site.card)
        folder = self._publisher.folder / "sites" / "rehearsal"
        enrolment = open_enrolment((folder / "enroll.age").read_bytes(), site.code)
        keys = open_keys((folder / "keys.age").read_bytes(), enrolment.identity)
        trusted = self._publisher.trusted()
        newest = newest_descriptor(self._publisher.folder, trusted)
        if newest is None:
            raise BadBundle("the rehearsal's bundle is not listed")
        with open_bundle(self._publisher.folder, newest, keys) as bundle:
            if bundle.read("content") != _CONTENT:
                raise BadBundle("the rehearsal's bundle holds something else")
        return f"made a site; its code opens bundle {newest.bundle}"

    def _replace_the_refresh_key(self) -> str:
        """As after a theft: a new key, a new root, and the old key removed."""
        roots, ring = Roots(self._keyring.home), self._keyring
        change = Change("refresh", [ring.new_key("refresh-2", _QUICK)], [ring.public("refresh").keyid])
        take_root(changed_root(roots.newest(), [change], self._now), ring, roots, None, self._now)
        (ring.folder / "refresh.key").unlink()
        self._publisher.resign()
        version = self._publisher.trusted().root_version
        return f"replaced the refresh key; boxes follow to root version {version}"

    def _write(self) -> str:
        file = self._folder / "content"
        file.write_bytes(_CONTENT)
        writer = BundleWriter(self._publisher, self._keyring, Terminal(quiet=True), 1 << 20)
        captured = (Captured("content", file, "texts", "", "file:content", (), 1 << 20),)
        return writer.write("rehearsal", captured, _SERVICE, self._now).descriptor.bundle
