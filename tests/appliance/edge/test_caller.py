"""Work that is done for a caller ends with its connection, and with nothing else that looks like it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from appliance.edge.caller import Caller, CallerLeft, caller_of

FOR_EVER_S = 60.0


def outcome(work: Coroutine[Any, Any, Any], *acts: Callable[[Caller, asyncio.Task[Any]], object]) -> str:
    """Returns how `waits_for` ended after each act was done in a turn of the loop of its own."""

    async def run() -> str:
        caller = Caller()
        task = asyncio.create_task(caller.waits_for(work))
        for act in acts:
            await asyncio.sleep(0)
            act(caller, task)
        try:
            return str(await task)
        except CallerLeft:
            return f"left, {task.cancelling()} cancelled"
        except asyncio.CancelledError:
            return "cancelled"

    return asyncio.run(run())


async def answered() -> str:
    await asyncio.sleep(0)
    return "answered"


async def cleaning(cleaned: list[str]) -> None:
    try:
        await asyncio.sleep(FOR_EVER_S)
    finally:
        await asyncio.sleep(0)
        cleaned.append("clean")


def leaves(caller: Caller, _: asyncio.Task[Any]) -> None:
    caller.leave()


def is_cancelled(_: Caller, task: asyncio.Task[Any]) -> None:
    task.cancel()


def leaves_at_a_stop(caller: Caller, task: asyncio.Task[Any]) -> None:
    task.cancel()
    caller.leave()


def test_who_stays_gets_the_answer() -> None:
    """Nothing is in the way of a caller that waits."""
    assert outcome(answered()) == "answered"


def test_who_leaves_ends_the_work() -> None:
    """What the work does on its way out is still done."""
    cleaned: list[str] = []
    assert outcome(cleaning(cleaned), leaves) == "left, 0 cancelled"
    assert cleaned == ["clean"]


def test_who_left_before_begins_no_work() -> None:
    """A connection may be lost before the application was reached."""

    async def run() -> None:
        caller, cleaned = Caller(), list[str]()
        caller.leave()
        with pytest.raises(CallerLeft):
            await caller.waits_for(cleaning(cleaned))
        assert cleaned == []

    asyncio.run(run())


def test_a_stop_stays_a_stop() -> None:
    """Whoever cancels the request itself hears that it was cancelled, also where the caller leaves with it."""
    assert outcome(asyncio.sleep(FOR_EVER_S), is_cancelled) == "cancelled"
    assert outcome(asyncio.sleep(FOR_EVER_S), leaves_at_a_stop) == "cancelled"


def test_who_leaves_behind_the_answer_takes_nothing() -> None:
    """The task goes on where the work is over."""

    async def run() -> str:
        caller = Caller()
        said = await caller.waits_for(answered())
        caller.leave()
        await asyncio.sleep(0)
        return said

    assert asyncio.run(run()) == "answered"


def test_a_lost_connection_ends_all_that_was_asked_on_it(served: Callable[[Any], tuple[str, int]]) -> None:
    """Two requests ahead of their answers: the one that is being answered ends, and the other one never begins."""
    began, ended = threading.Event(), threading.Event()
    asked: list[str] = []

    async def app(scope: Any, receive: Any, _: Any) -> None:
        asked.append(scope["path"])
        await receive()  # which has uvicorn read on behind a request that came ahead
        began.set()
        try:
            await caller_of(scope).waits_for(asyncio.sleep(FOR_EVER_S))
        except CallerLeft:
            ended.set()

    with socket.create_connection(served(app)) as client:
        client.sendall(b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert began.wait(FOR_EVER_S)
    assert ended.wait(FOR_EVER_S)
    assert asked == ["/1"]
