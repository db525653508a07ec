"""Which certificate a serving process shows, of the operator's files or of the box's own CA, and its renewal."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from appliance.edge.tls import Certificate, make_leaf
from appliance.edge.tls_files import Given, TlsFiles, days_left, names_of, read, stamp
from appliance.edge.tls_shown import Shown
from appliance.host.authority import box_authority
from appliance.host.box import site_hosts
from appliance.host.listen import Listen
from appliance.store.seal import Seal
from appliance.store.versions import Version
from bundler.format.errors import BadInput

LOOK_S = 5.0
# A box may run for years; its own leaf lives for 397 days.
RENEW_DAYS = 60
SURE_LOOKS = 2

log = logging.getLogger("lifeboat.tls")


@dataclass(frozen=True)
class Own:
    """The box's own CA, and the names that its leaves are for."""

    authority: Certificate
    names: Sequence[str]

    def leaf(self, now: datetime) -> Certificate:
        return make_leaf(self.authority, self.names, now)


def source_of(seal: Seal, site: str, listen: Listen, version: Version) -> Given | Own | None:
    """Returns where the certificate comes from, None on loopback without files.

    Names that the MSP sets while the box serves are in the box's own certificate from the next start on.
    """
    if listen.tls is not None or listen.on_loopback:
        return listen.tls
    names = [*listen.reached_by(), *site_hosts(version.settings), "localhost", "127.0.0.1"]
    return Own(box_authority(seal, site, datetime.now(UTC)), names)


def both(cert: Path | None, key: Path | None) -> tuple[Path, ...]:
    """Returns the two files, or neither; raises BadInput where one is named without the other."""
    named = tuple(path for path in (cert, key) if path is not None)
    if len(named) == 1:
        raise BadInput("--tls-cert and --tls-key go together", "name both files, or none")
    return named


def with_files(listen: Listen, cert: Path | None, key: Path | None) -> Listen:
    """Returns where to listen, with a certificate of the operator's own, whose names are the box's.

    Raises:
        BadInput: One of the files is named without the other, or what they hold cannot be served.
    """
    named = both(cert, key)
    if not named:
        return listen
    files = TlsFiles(*(path.absolute() for path in named))
    found = read(files, listen.names, datetime.now(UTC))
    names = tuple(dict.fromkeys((*listen.names, *names_of(found.cert_pem))))
    return replace(listen, names=names, tls=Given(files, found, listen.names))


class Follower:
    """Shows what the source has, and goes on with what it was where the new one is not good.

    Args:
        source: Where certificates come from.
        clock: The time.
    """

    def __init__(self, source: Given | Own, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._source, self._clock = source, clock
        self._current = source.certificate if isinstance(source, Given) else source.leaf(clock())
        self._seen: object = None
        self._fault, self._times = "", 0
        self.shown = Shown(self._current)

    async def follow(self) -> None:
        """Looks for ever."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_S)

    def look(self) -> None:
        """Takes a renewed certificate."""
        if isinstance(self._source, Own):
            if days_left(self._current.cert_pem, self._clock()) < RENEW_DAYS:
                self._show(self._source.leaf(self._clock()))
            return
        try:
            self._look_at(self._source)
        except (BadInput, OSError) as error:
            self._failed(error.fact if isinstance(error, BadInput) else f"{error.filename}: {error.strerror}")

    def _look_at(self, given: Given) -> None:
        now = stamp(given.files)
        if now == self._seen:
            return
        found = read(given.files, given.names, self._clock())
        if stamp(given.files) == now:  # else they were replaced meanwhile
            self._seen, self._times = now, 0
            if found != self._current:
                self._show(found)

    def _failed(self, words: str) -> None:
        """Tells once what still holds at the second look: two files are never replaced at one moment."""
        self._times = self._times + 1 if words == self._fault else 1
        self._fault = words
        if self._times == SURE_LOOKS:
            log.warning("the certificate's files are not taken, what was shown before still is: %s", words)

    def _show(self, certificate: Certificate) -> None:
        self._current = certificate
        self.shown.show(certificate)


@asynccontextmanager
async def following(follower: Follower | None) -> AsyncIterator[Shown | None]:
    """Keeps up what is shown for as long as the block lasts."""
    if follower is None:
        yield None
        return
    task = asyncio.create_task(follower.follow())
    try:
        yield follower.shown
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
