"""The answer cache of a serving version: asked by its rung, told of whole answers; what it may do is in `caching`.

No fault of its file fails a request: a look ends in a miss with a reason, an answer is not kept, and both are told.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import msgspec

from appliance.answer import render
from appliance.answer.facts import Box
from appliance.gateway import caching
from appliance.gateway.caching import Found, Kept, Wishes
from appliance.gateway.call import Answer, Call, Chunk, ChunkStream, Told
from appliance.gateway.outcome import Passed
from appliance.gateway.validate import Said, of_body
from appliance.records.cache import CacheFile, Tally
from appliance.records.journal import NotKept
from appliance.records.thread import RecordThread
from bundler.format.service import CACHE

# A look before any rung is asked must not cost what it saves; one instead of them may wait for a slow disk.
FRESH_WAIT_S, WAIT_S = 0.15, 2.0
TIDY_S = 600.0


@dataclass(frozen=True)
class Facts:
    """How the cache stands.

    Attributes:
        answers: How many are kept now.
        sealed_bytes: What they take.
        looks: How often a look ended in each of hit, stale, miss and fault, since the start.
        kept: How many answers were kept since then.
        gone: How many went for want of room, by age, or because they were damaged.
        trouble: Why the file cannot be used, or "".
    """

    answers: int
    sealed_bytes: int
    looks: dict[str, int]
    kept: int
    gone: dict[str, int]
    trouble: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class AnswerCache:
    """Answers of providers for the same request of the same tenant; `async with` it.

    Args:
        thread: The file's.
        tally: What the file counts.
        content: Names the version of the box's content (`content_of`).
        clock: Unix seconds.

    Attributes:
        trouble: Why the file cannot be used, as of its last use, or "".
    """

    def __init__(
        self, thread: RecordThread[CacheFile], tally: Tally, content: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._thread, self._tally, self._content, self._clock = thread, tally, content, clock
        self._looks = dict.fromkeys(("hit", "stale", "miss", "fault"), 0)
        self._kept, self.trouble = 0, ""
        self._stack = AsyncExitStack()
        self._tidying: asyncio.Task[None] | None = None

    async def __aenter__(self) -> AnswerCache:
        await self._stack.enter_async_context(self._thread)
        self._tidying = asyncio.create_task(self._tidy())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._tidying is not None:
            self._tidying.cancel()
            await asyncio.gather(self._tidying, return_exceptions=True)
        await self._stack.aclose()

    async def fresh(self, call: Call) -> Found | None:
        """Returns what may be given before any rung is asked, None where nothing may."""
        if call.route.cache is None or not call.route.cache.fresh_s or not caching.applies(call):
            return None
        wishes = caching.wishes_of(call)
        if not wishes.give:
            return None
        with suppress(NotKept):
            found = await self._look(call, wishes, FRESH_WAIT_S)
            if found is not None and found.fresh:
                self._looks["hit"] += 1
                return found
            self._looks["miss"] += 1
        return None

    async def asked(self, call: Call) -> Found:
        """Returns what the rung of the cache gives.

        Raises:
            Passed: Nothing is kept for this request, or it may not be given.
        """
        wishes = caching.wishes_of(call)
        if not caching.applies(call):
            raise Passed("answers to such a request are not kept", incapable=True)
        if not wishes.give:
            raise Passed("the caller wants no answer from before", incapable=True)
        try:
            found = await self._look(call, wishes, WAIT_S)
        except NotKept as error:
            raise Passed(f"the answer cache cannot be read: {error.fact}") from error
        if found is None:
            self._looks["miss"] += 1
            raise Passed("no answer to this request is kept", incapable=True)
        self._looks["hit" if found.fresh else "stale"] += 1
        return found

    def noting(self, call: Call, answer: Answer) -> Answer:
        """Returns an answer that is kept once it is whole, where it may be."""
        if answer.kind != caching.UPSTREAM or not caching.applies(call) or not caching.wishes_of(call).keep:
            return answer
        if answer.chunks is None:
            body = answer.body or {}
            self._keep(call, caching.kept_of(of_body(body), answer, caching.created_of(body)))
            return answer

        def whole(said: Said, created: int) -> None:
            self._keep(call, caching.kept_of(said, answer, created))

        return replace(answer, chunks=Noted(answer.chunks, whole))

    def facts(self) -> Facts:
        """Returns how the cache stands."""
        tally = self._tally
        gone = {"room": tally.evicted, "age": tally.expired, "damaged": tally.damaged}
        return Facts(tally.answers, tally.sealed_bytes, dict(self._looks), self._kept, gone, self.trouble)

    async def _look(self, call: Call, wishes: Wishes, limit_s: float) -> Found | None:
        """Raises NotKept where the file cannot be used, or not in time."""
        now_s = self._clock()

        def look(file: CacheFile) -> tuple[Kept, int] | None:
            row = file.get(call.tenant, caching.request_of(call, self._content), now_s)
            return None if row is None else (caching.decode(row[0]), row[1])

        try:
            async with asyncio.timeout(limit_s):
                row = await self._thread.run(look)
        except TimeoutError:
            self._fault(error := NotKept("it did not answer in time"))
            raise error from None
        except NotKept as error:
            self._fault(error)
            raise
        except msgspec.DecodeError:  # of an older program: a miss
            return None
        self.trouble = ""
        return None if row is None else caching.found(row[0], row[1], now_s, call, wishes)

    def _fault(self, error: NotKept) -> None:
        self._looks["fault"] += 1
        self.trouble = error.fact

    def _keep(self, call: Call, kept: Kept | None) -> None:
        """Has an answer kept; nobody waits for it."""
        spec, now_s = call.route.cache, int(self._clock())
        if kept is None or spec is None:
            return

        def put(file: CacheFile) -> None:
            request = caching.request_of(call, self._content)
            file.put(call.tenant, request, caching.encode(kept), now_s=now_s, keep_s=spec.keep_s)

        try:
            self._thread.post(put, self._put)
        except NotKept as error:
            self._put(error)

    def _put(self, error: BaseException | None) -> None:
        if error is None:
            self._kept += 1
        self.trouble = "" if error is None else error.fact if isinstance(error, NotKept) else type(error).__name__

    async def _tidy(self) -> None:
        """Removes what is over by age, also while nobody asks: how long an answer is kept is a promise."""
        while True:
            now_s = int(self._clock())
            with suppress(NotKept):  # told by whoever asks next
                await self._thread.run(lambda file, now_s=now_s: file.tidy(now_s))  # type: ignore[misc]  # a default binds it
            await asyncio.sleep(TIDY_S)


class Noted:
    """A stream of which the text is put together, and told once it has ended whole.

    Args:
        inner: The stream.
        whole: Gets what it said and when it was made; not called where the stream breaks or nobody reads to its end.
    """

    def __init__(self, inner: ChunkStream, whole: Callable[[Said, int], None]) -> None:
        self._inner, self._whole = inner, whole

    def close(self) -> None:
        self._inner.close()

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        said, created = Said(), 0
        async for chunk in self._inner:
            if caching.may_grow(said):
                said.take(chunk.value)
            created = created or caching.created_of(chunk.value)
            yield chunk
        self._whole(said, created)


def as_answer(found: Found, rung: str, call: Call, new_id: str) -> Answer:
    """Returns a kept answer as its rung gives it, whole or as a stream; it costs no model anything."""
    kept = found.kept
    text = render.Text(kept.text, kept.model, call.wire, new_id, kept.created)
    whole = None if call.stream else render.body(text)
    live = render.FixedStream(render.chunks(text, usage=call.wants_usage)) if call.stream else None
    return Answer(rung, CACHE, CACHE, whole, live, told=Told(cached=caching.told_of(found)))


def content_of(box: Box) -> str:
    """Returns what names the content of a version: its bundle, its number, and everything that the profile says."""
    service = hashlib.sha256(msgspec.json.encode(box.service, order="deterministic")).hexdigest()
    return f"{box.bundle} {box.version} {service}"
