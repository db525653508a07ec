"""A version that is open in this process, and how many requests it is answering."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any

from litestar import Litestar

from appliance.answer.cached import AnswerCache, content_of
from appliance.answer.handoff import Place
from appliance.answer.jobs import BOUNDS, Jobs
from appliance.answer.tickets import Tickets
from appliance.app import create_app
from appliance.edge.quota import Quotas
from appliance.edge.tokens import TokenStore
from appliance.host.box import Box, make_box
from appliance.host.outlook import Outlook, outlook
from appliance.host.shelf import Shelf
from appliance.host.status import selftest_facts
from appliance.host.trial import Trial, tried
from appliance.records.cache import CacheFile, Tally
from appliance.records.cipher import Cipher
from appliance.records.journal import Journal
from appliance.records.thread import JournalThread, RecordThread
from appliance.settings import Settings
from appliance.store import versions
from appliance.store.layout import StateLayout
from appliance.store.seal import SiteSecrets
from bundler.format.bundle import Bundle
from bundler.knowledge.dense import DenseFactory

_LOAD_S = 600.0


class Loaded:
    """An open version.

    Args:
        version: Its record.
        bundle: Its files.
        box: What it serves.
        app: Its application.
    """

    def __init__(self, version: versions.Version, bundle: Bundle, box: Box, app: Litestar) -> None:
        self.version, self.box, self.app, self.bundle = version, box, app, bundle
        self._idle, self._closing = asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._requests = 0
        self.kept: asyncio.Task[None] | None = None

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:
        self._requests += 1
        self._idle.clear()
        try:
            await self.app(scope, receive, send)
        finally:
            self._requests -= 1
            if not self._requests:
                self._idle.set()

    def own_engines(self) -> None:
        """Lets engines that ran before read from this version's files: those of the older one will be closed."""
        for engine in self.box.engines.values():
            engine.reads_from(self.bundle.reader(engine.spec.asset))

    def outlook(self) -> Outlook:
        """Returns how its rungs are."""
        states = self.app.state.answering.states()
        return outlook((state.rung, state.kind, state.state, state.reason) for state in states)

    def leave(self) -> None:
        """Lets those go who only watch."""
        self.app.state.answering.leave()

    async def drain(self) -> None:
        """Closes the version once its requests are answered, or after the longest that one may take."""
        self.leave()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), self.box.service.limits.request_timeout_ms / 1000)
        # A child that the next version shares may still be reading this one's files.
        await asyncio.gather(*(engine.settled(_LOAD_S) for engine in self.box.engines.values()))
        await self.close()

    async def close(self) -> None:
        self._closing.set()
        if self.kept is not None:
            await self.kept

    async def closing(self) -> None:
        """Returns once somebody wants it closed."""
        await self._closing.wait()


class Loader:
    """Opens versions of one state.

    Args:
        layout: The state.
        secrets: Opened from the seal.
        settings: Makes the settings of a version.
        dense: Finds the candidates of a search.
        shelf: The engines.
    """

    def __init__(
        self,
        layout: StateLayout,
        secrets: SiteSecrets,
        settings: Callable[[Box], Settings],
        dense: DenseFactory,
        shelf: Shelf,
    ) -> None:
        self.layout, self.secrets, self.shelf = layout, secrets, shelf
        self._settings, self._dense = settings, dense
        self._tokens = TokenStore(layout.tokens)
        self.quotas = Quotas(path=layout.quotas)

    async def open(self, number: int) -> Loaded:
        """Opens a version; its engines are not started.

        Raises:
            BadBundle: Somebody changed it on this disk.
        """
        opened: asyncio.Future[Loaded] = asyncio.get_running_loop().create_future()
        # What an application enters it must leave in the same task, and whoever closes a version is another.
        task = asyncio.create_task(self._keep(number, opened))
        try:
            loaded = await asyncio.shield(opened)
        except asyncio.CancelledError:
            task.cancel()
            raise
        loaded.kept = task
        return loaded

    async def tried(self, number: int) -> Trial:
        """Tries a version's knowledge in a process of its own; raises what `trial.tried` and `open` do."""
        version = versions.read_version(self.layout, self.secrets, number)
        bundle = await asyncio.to_thread(versions.open_version, self.layout, self.secrets, version)
        with bundle:
            return await tried(bundle, self.shelf.room.look)

    async def _keep(self, number: int, opened: asyncio.Future[Loaded]) -> None:
        try:
            async with AsyncExitStack() as stack:
                loaded = await self._open(number, stack)
                opened.set_result(loaded)
                await loaded.closing()
        except Exception as error:
            if opened.done():
                raise
            opened.set_exception(error)

    async def _open(self, number: int, stack: AsyncExitStack) -> Loaded:
        version = versions.read_version(self.layout, self.secrets, number)
        bundle = await asyncio.to_thread(versions.open_version, self.layout, self.secrets, version)
        stack.callback(bundle.close)
        engines = self.shelf.take(bundle)
        stack.push_async_callback(self.shelf.give_back, engines)
        told = partial(selftest_facts, self.layout, version)
        box = await asyncio.to_thread(make_box, bundle, version, engines, told, self._dense)
        settings = self._settings(box)
        tickets, cache, jobs = self._tickets(box, settings), self._cache(box), self._jobs(box)
        app = create_app(box, self._tokens, settings, tickets=tickets, cache=cache, quotas=self.quotas, jobs=jobs)
        await stack.enter_async_context(app.lifespan())
        return Loaded(version, bundle, box, app)

    def _cache(self, box: Box) -> AnswerCache | None:
        routes = [box.service.ladder.cache, *(route.cache for route in box.service.routes)]
        if not any(routes):
            return None
        cipher, tally = Cipher(bytes.fromhex(self.secrets.version_secret), "cache"), Tally()
        thread = RecordThread(lambda: CacheFile(self.layout.cache, cipher, tally=tally), "cache")
        return AnswerCache(thread, tally, content_of(box))

    def _jobs(self, box: Box) -> Jobs | None:
        if not any([box.service.ladder.jobs_keep_s, *(route.jobs_keep_s for route in box.service.routes)]):
            return None
        cipher = Cipher(bytes.fromhex(self.secrets.version_secret), "jobs")
        return Jobs(JournalThread(lambda: Journal(self.layout.jobs, cipher, BOUNDS), self.layout.jobs_lock))

    def _tickets(self, box: Box, settings: Settings) -> Tickets | None:
        spec, layout = box.service.handoff, self.layout
        if spec is None:
            return None
        cipher = Cipher(bytes.fromhex(self.secrets.version_secret), "journal")
        thread = JournalThread(lambda: Journal(layout.journal, cipher), layout.working)
        place = Place(self.secrets.site, box.service.profile, box.service.title)
        return Tickets(spec, place, box.policy.egress, settings.credential, thread)


def settle() -> None:
    """Takes what a version has loaded out of the cyclic collector's sight, whose full pass over it stops every request.

    A version that leaves is freed by its reference counts; what cycles it leaves are found at the next switch.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
