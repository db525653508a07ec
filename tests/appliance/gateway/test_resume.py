"""What is kept of streams that broke off: bounded in number, bytes and time, each tenant's own, made once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from appliance.gateway import resume
from appliance.gateway.call import CHAT, Answer, Call, Served, Skip
from appliance.gateway.resume import Resumes
from bundler.format.service import RungSpec

RUNGS = (RungSpec("b", "model", "b"),)
PASSED = (Skip("a", "it broke off"),)


class Ladder:
    """Counts what it is asked; answers, or fails while `fails` says so."""

    def __init__(self) -> None:
        self.asked: list[Call] = []
        self.fails, self.now_s = 0, 100.0
        self.gate = asyncio.Event()
        self.gate.set()

    def clock(self) -> float:
        return self.now_s

    async def make(self, call: Call, rungs: tuple[RungSpec, ...], passed: tuple[Skip, ...]) -> Served:
        assert (rungs, passed) == (RUNGS, PASSED)
        self.asked.append(call)
        await self.gate.wait()
        if self.fails:
            self.fails -= 1
            raise RuntimeError("no rung")
        return Served(Answer("b", "model", "b", {"n": len(self.asked)}), "LOCAL", None, passed)


def call(tenant: str = "t", text: str = "x") -> Call:
    body = {"messages": [{"role": "user", "content": text}], "stream": True, "stream_options": {"include_usage": True}}
    words: dict[str, Any] = {"wire": CHAT, "body": body, "question": text, "stream": True, "model": "m"}
    return Call(**words, needs=frozenset(), ignorable=(), deadline_s=5.0, tenant=tenant)


def run(story: Callable[[Ladder, Resumes], Awaitable[None]]) -> None:
    async def main() -> None:
        ladder = Ladder()
        resumes = Resumes(ladder.clock, ladder.make)
        try:
            await story(ladder, resumes)
        finally:
            await resumes.close()

    asyncio.run(main())


def put(resumes: Resumes, **more: Any) -> str:
    key = resumes.put(call(**more), RUNGS, PASSED)
    assert key is not None
    return key


def test_it_is_made_once_for_whoever_asks() -> None:
    """Two at once and one later get the same answer; the request is a whole one with time of its own."""

    async def story(ladder: Ladder, resumes: Resumes) -> None:
        key = put(resumes)
        ladder.gate.clear()
        both = [asyncio.create_task(resumes.get(key, "t", 30.0)) for _ in range(2)]
        await asyncio.sleep(0)
        ladder.gate.set()
        found = [await each for each in both] + [await resumes.get(key, "t", 30.0)]
        assert [served and served.answer.body for served in found] == [{"n": 1}] * 3
        asked = ladder.asked[0]
        assert (asked.stream, asked.deadline_s, set(asked.body)) == (False, 130.0, {"messages"})

    run(story)


def test_whoever_leaves_takes_nothing_away() -> None:
    """The answer goes on being made for the next one who asks."""

    async def story(ladder: Ladder, resumes: Resumes) -> None:
        key = put(resumes)
        ladder.gate.clear()
        leaving = asyncio.create_task(resumes.get(key, "t", 30.0))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        ladder.gate.set()
        assert await resumes.get(key, "t", 30.0) is not None
        assert len(ladder.asked) == 1

    run(story)


def test_a_failure_is_tried_again() -> None:
    """It is told to the one who asked, and not kept."""

    async def story(ladder: Ladder, resumes: Resumes) -> None:
        key = put(resumes)
        ladder.fails = 1
        with pytest.raises(RuntimeError):
            await resumes.get(key, "t", 30.0)
        assert await resumes.get(key, "t", 30.0) is not None

    run(story)


def test_its_time_ends() -> None:
    """And another tenant's time never begins."""

    async def story(ladder: Ladder, resumes: Resumes) -> None:
        key = put(resumes)
        assert await resumes.get(key, "u", 30.0) is None
        ladder.now_s += resume.KEPT_S + 1
        assert await resumes.get(key, "t", 30.0) is None
        assert ladder.asked == []

    run(story)


def test_one_tenant_drives_out_its_own_oldest_only() -> None:
    """However many streams of it break."""

    async def story(_: Ladder, resumes: Resumes) -> None:
        other, first = put(resumes, tenant="u"), put(resumes)
        last = [put(resumes) for _ in range(resume.TENANT_ENTRIES_MAX)][-1]
        assert await resumes.get(first, "t", 30.0) is None
        assert await resumes.get(last, "t", 30.0) is not None
        assert await resumes.get(other, "u", 30.0) is not None

    run(story)


def test_bytes_are_bounded() -> None:
    """The oldest give way; a request that would take a quarter of all is not kept."""

    async def story(_: Ladder, resumes: Resumes) -> None:
        text = "x" * (resume.BYTES_MAX // 5)
        keys = [put(resumes, tenant=str(number), text=text) for number in range(5)]
        assert await resumes.get(keys[0], "0", 30.0) is None
        assert await resumes.get(keys[4], "4", 30.0) is not None
        assert resumes.put(call(text="x" * (resume.BYTES_MAX // 4)), RUNGS, PASSED) is None

    run(story)


def test_a_tenant_with_long_requests_drives_out_its_own() -> None:
    """Its share of the memory is a quarter."""

    async def story(_: Ladder, resumes: Resumes) -> None:
        other = put(resumes, tenant="u")
        keys = [put(resumes, text="x" * (resume.TENANT_BYTES_MAX // 2)) for _ in range(8)]
        found = [await resumes.get(key, "t", 30.0) is not None for key in keys]
        assert found == [False] * 7 + [True]
        assert await resumes.get(other, "u", 30.0) is not None

    run(story)


def test_ids_are_not_guessed() -> None:
    """Each has 144 random bits."""

    async def story(_: Ladder, resumes: Resumes) -> None:
        keys = {put(resumes) for _ in range(50)}
        assert len(keys) == 50
        assert all(len(key) == len(resume.PREFIX) + 24 for key in keys)

    run(story)
