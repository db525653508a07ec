"""The real engine dies in every way that a test can bring about; callers see whole answers or clean ends, their own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from appliance.answer.answering import Answering
from appliance.engine import transfer
from appliance.engine.parent import Engine
from appliance.engine.reading import BytesReader
from appliance.engine.watchdog import Patience
from appliance.gateway.climb import NoRung
from appliance.gateway.outcome import Refused
from appliance.host.box import Box, Policy
from appliance.routes import present
from appliance.settings import Settings
from bundler.format.service import LadderSpec, LimitsSpec, ModelSpec, RungSpec, Service

pytestmark = [pytest.mark.llm]

FAULTY = (sys.executable, "-I", str(Path(__file__).parent / "faulty_child.py"))
QUICK = Patience(silent_s=3.0, stuck_s=3.0, look_s=0.1, stop_s=5.0)
QUESTIONS = ("Name three colours.", "Count to twenty.", "What is a lifeboat?", "Write a line about rain.")
SPEC = ModelSpec("smol", "models/smol.gguf", "ab" * 32, 512, 400)
LADDER = LadderSpec(
    (RungSpec("smol", "model", "smol"), RungSpec("message", "message", "")), ("smol", "message"), (), "", "Sorry.", ""
)
SERVICE = Service(
    profile="test",
    title="Test",
    models=(SPEC,),
    embedding=None,
    collections=(),
    faqs=(),
    routers=(),
    upstreams=(),
    ladder=LADDER,
    limits=LimitsSpec(body_bytes=100_000, queue_requests=64, request_timeout_ms=120_000),
    selftest=None,
    inventory=(),
)


def made(gguf: Path, folder: Path, **options: Any) -> Engine:
    folder.mkdir()
    reader = BytesReader(gguf.read_bytes())
    return Engine(SPEC, reader, runtime_dir=folder, threads=1, queue_requests=64, **{"patience": QUICK, **options})


@asynccontextmanager
async def running(gguf: Path, folder: Path, **options: Any) -> AsyncIterator[tuple[Engine, Answering]]:
    """A started engine and the box's answering side in front of it."""
    engine = made(gguf, folder, **options)
    box = Box(SERVICE, 1, "b-1", None, None, {"smol": engine}, Policy(()))
    await engine.start()
    try:
        async with Answering(box, Settings()) as answering:
            yield engine, answering
    finally:
        await engine.stop()


async def until(condition: Callable[[], bool], limit_s: float = 120) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.02)


def body(question: str, tokens: int = 24, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": question}]
    return {"model": "smol", "messages": messages, "max_tokens": tokens, "temperature": 0, **more}


async def whole(answering: Answering, question: str, tokens: int = 24) -> str:
    """Returns the answer's beginning, which tells whose it is; that it is the same to the end is tested elsewhere."""
    return (await told(answering, question, tokens))[:20]


async def told(answering: Answering, question: str, tokens: int) -> str:
    served = await answering.complete(answering.call(body(question, tokens)))
    assert served.answer.body is not None
    return str(served.answer.body["choices"][0]["message"]["content"])


async def streamed(answering: Answering, question: str, tokens: int, on_begun: Callable[[], None]) -> tuple[str, str]:
    """Returns the text of a stream and how it ended: its finish reason, or the code of its error."""
    served = await answering.complete(answering.call(body(question, tokens, stream=True)))
    text, end, events = "", "", list[bytes]()
    async for event in present.events(served, lambda _: None):
        on_begun()
        events.append(event)
        value = {} if b"[DONE]" in event else json.loads(event.removeprefix(b"data: "))
        end = value["error"]["code"] if "error" in value else end
        for choice in value.get("choices", ()):
            text += choice["delta"].get("content") or ""
            end = choice["finish_reason"] or end
    assert (events[-1] == b"data: [DONE]\n\n") == (end in ("stop", "length"))
    return text, end


def pid_of(engine: Engine) -> int:
    assert engine._child is not None
    return engine._child.pid


def status(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


def oom_score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


async def until_inside(engine: Engine, count: int) -> None:
    """Returns once the child has that many requests in hand, or has had them."""
    async with httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(uds=str(engine.socket))) as http:
        for _ in range(2000):
            if (await http.get("http://e/health")).json()["requests"] >= count:
                return
            await asyncio.sleep(0.002)


def test_sigkill_loses_no_answer_that_had_not_begun(smollm_gguf: Path, tmp_path: Path) -> None:
    """Whole answers come from the next child, each caller gets its own; a stream that had begun ends as a cut one."""

    async def work() -> None:
        async with running(smollm_gguf, tmp_path / "run") as (engine, answering):
            assert oom_score(pid_of(engine)) == 1000, "the kernel takes it first"
            assert "\nSeccomp:\t2\n" in status(pid_of(engine)), "it has no network"
            alone = {question: await whole(answering, question) for question in QUESTIONS}
            story = await told(answering, "Tell me a story.", 200)
            begun = asyncio.Event()
            cut = asyncio.create_task(streamed(answering, "Tell me a story.", 200, begun.set))
            await begun.wait()
            asked = [asyncio.create_task(whole(answering, question)) for question in QUESTIONS]
            await until_inside(engine, 1 + len(QUESTIONS))
            os.kill(pid_of(engine), signal.SIGKILL)
            assert dict(zip(QUESTIONS, await asyncio.gather(*asked), strict=True)) == alone
            text, end = await cut
            assert end == "upstream_interrupted"
            assert story.startswith(text[:20])
            assert (engine.restarts, engine.state) == (1, "ready")
            assert "killed" in engine.last_end

    asyncio.run(work())


def test_who_names_the_model_while_it_loads_again_waits_for_it(smollm_gguf: Path, tmp_path: Path) -> None:
    """Its end has been noticed; `auto` goes on to the other rungs meanwhile."""

    async def ask() -> tuple[str, str]:
        async with running(smollm_gguf, tmp_path / "engine") as (engine, answering):
            os.kill(pid_of(engine), signal.SIGKILL)
            await engine._changed.wait()
            assert engine.state == "loading"
            other = await answering.complete(answering.call(body("Say hello.", model="auto")))
            assert engine.state == "loading"
            named = await answering.complete(answering.call(body("Say hello.")))
            return other.answer.rung, named.answer.rung

    assert asyncio.run(ask()) == ("message", "smol")


def test_sigstop_is_noticed_and_its_requests_are_answered(smollm_gguf: Path, tmp_path: Path) -> None:
    """A stopped child is replaced within the bound; what was sent to it, stream or not, is answered by the next."""

    async def work() -> None:
        async with running(smollm_gguf, tmp_path / "run") as (engine, answering):
            alone = {question: await whole(answering, question) for question in QUESTIONS[:3]}
            os.kill(pid_of(engine), signal.SIGSTOP)
            one, two, three = QUESTIONS[:3]
            answers = await asyncio.gather(
                whole(answering, one), whole(answering, two), streamed(answering, three, 24, lambda: None)
            )
            assert [answers[0], answers[1], answers[2][0][:20]] == [alone[one], alone[two], alone[three]]
            assert engine.restarts == 1
            assert "no sign of life" in engine.last_end

    asyncio.run(work())


def test_a_child_that_dies_while_it_loads_is_replaced(smollm_gguf: Path, tmp_path: Path) -> None:
    """Killed after its first read, and stopped after the next one's: ready in the end."""

    async def work() -> None:
        engine = made(smollm_gguf, tmp_path / "run")
        engine.start_soon()
        try:
            for restarts, number in enumerate((signal.SIGKILL, signal.SIGSTOP)):
                await until(lambda: engine._child is not None and engine._child.reads > 0)
                os.kill(pid_of(engine), number)
                await until(lambda restarts=restarts: engine.restarts > restarts)  # type: ignore[misc]
            await until(lambda: engine.state == "ready")
            assert engine.generation == 1
        finally:
            await engine.stop()

    asyncio.run(work())


def test_a_poisoned_request_does_not_kill_for_ever(smollm_gguf: Path, tmp_path: Path) -> None:
    """It gets its error after three deaths; those beside it get their answers, and the engine serves on."""

    async def work() -> None:
        async with running(smollm_gguf, tmp_path / "run", command=FAULTY) as (engine, answering):
            alone = {question: await whole(answering, question) for question in QUESTIONS[:2]}
            poisoned = asyncio.create_task(whole(answering, "POISON"))
            beside = [asyncio.create_task(whole(answering, question)) for question in QUESTIONS[:2]]
            with pytest.raises(NoRung) as caught:
                await poisoned
            assert "three times" in caught.value.skips[0].reason
            assert not caught.value.incapable
            assert dict(zip(QUESTIONS, await asyncio.gather(*beside), strict=False)) == alone
            assert engine.restarts == 3
            assert "signal 11" in engine.last_end

    asyncio.run(work())


@pytest.mark.parametrize(
    ("fault", "words"), [("FREEZE", "stuck in one step"), ("DEAFEN", "heard no request"), ("DEVOUR", "its limit is")]
)
def test_a_child_that_hangs_or_grows_is_replaced(smollm_gguf: Path, tmp_path: Path, fault: str, words: str) -> None:
    """It beats on, yet its work, its ears or its memory are not as they must be; the reason is kept."""

    async def work() -> None:
        options: dict[str, Any] = {"command": FAULTY, "memory_bytes": 700 * 10**6}
        async with running(smollm_gguf, tmp_path / "run", **options) as (engine, answering):
            hanging = asyncio.create_task(whole(answering, fault))
            await until(lambda: engine.restarts > 0)
            assert words in engine.last_end
            hanging.cancel()
            await asyncio.wait({hanging})
            await until(lambda: engine.state == "ready")
            assert await whole(answering, "Say hello.")

    asyncio.run(work())


def test_a_request_that_cannot_be_prepared_is_refused_and_does_not_stay(smollm_gguf: Path, tmp_path: Path) -> None:
    """Its template or grammar hangs: it gets 400, the others go on and end whole, and a new child takes over."""

    async def work() -> None:
        async with running(smollm_gguf, tmp_path / "run", command=FAULTY) as (engine, answering):
            states = recorded(engine)
            alone = await whole(answering, QUESTIONS[0])
            tangled = [asyncio.create_task(whole(answering, "TANGLE")) for _ in range(3)]
            beside = [asyncio.create_task(whole(answering, QUESTIONS[0])) for _ in range(4)]
            assert await asyncio.gather(*beside) == [alone] * 4
            for refused in await asyncio.gather(*tangled, return_exceptions=True):
                assert isinstance(refused, Refused)
                assert (refused.status, refused.code) == (400, "too_slow_to_prepare")
            await until(lambda: engine.generation == 2 and engine.state == "ready")
            assert "preparation of a request" in engine.last_end
            assert await whole(answering, QUESTIONS[0]) == alone
            assert list(dict.fromkeys(state for state, _ in states)) == ["draining", "loading", "ready"]
            assert "did not come to an end" in states[0][1]

    asyncio.run(work())


def recorded(engine: Engine) -> list[tuple[str, str]]:
    """Returns a list that grows with each state and its reason."""
    states, become = list[tuple[str, str]](), engine._become

    def record(state: str, reason: str) -> None:
        states.append((state, reason))
        become(state, reason)

    engine._become = record  # type: ignore[method-assign]
    return states


def test_a_preparation_in_hand_does_not_hold_up_the_end(smollm_gguf: Path, tmp_path: Path) -> None:
    """Refused, yet not judged stuck: the child that is drained ends by itself, whatever its thread does."""

    async def work() -> None:
        async with running(smollm_gguf, tmp_path / "run", command=FAULTY) as (engine, answering):
            tangled = asyncio.create_task(whole(answering, "TANGLE"))
            await until_inside(engine, 1)
            os.kill(pid_of(engine), transfer.DRAIN)
            with pytest.raises(Refused):
                await tangled
            await until(lambda: engine.restarts == 1)
            assert engine.last_end == "the engine ended with code 0"

    asyncio.run(work())


def test_a_drain_finishes_what_was_accepted(smollm_gguf: Path, tmp_path: Path) -> None:
    """Twenty in a model of sixteen places end whole; who comes meanwhile is told to come again; the child is gone."""

    async def work() -> None:
        async with running(smollm_gguf, tmp_path / "run") as (engine, answering):
            pid = pid_of(engine)
            asked = [asyncio.create_task(whole(answering, f"{number}?", 12)) for number in range(20)]
            await until_inside(engine, 20)
            draining = asyncio.create_task(engine.drain(120))
            await until(lambda: engine.state == "draining")
            with pytest.raises(NoRung, match="no rung") as caught:
                await whole(answering, "Too late?")
            assert "draining" in caught.value.skips[0].reason
            assert all(await asyncio.gather(*asked))
            await draining
            assert engine.restarts == 0
            assert not engine.socket.exists()
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)

    asyncio.run(work())


def test_a_drain_that_runs_out_of_time_ends_the_rest_cleanly(smollm_gguf: Path, tmp_path: Path) -> None:
    """A stream gets an error event and no [DONE], a whole answer 503 with Retry-After."""

    async def work() -> None:
        async with running(smollm_gguf, tmp_path / "run") as (engine, answering):
            begun = asyncio.Event()
            stream = asyncio.create_task(streamed(answering, "Count to nine hundred.", 400, begun.set))
            transport = httpx2.AsyncHTTPTransport(uds=str(engine.socket))
            async with httpx2.AsyncClient(transport=transport, timeout=60) as http:
                asked = asyncio.create_task(
                    http.post("http://e/v1/chat/completions", json=body("Count to nine hundred.", 400))
                )
                await begun.wait()
                await until_inside(engine, 2)
                await engine.drain(0)
                answer = await asked
            assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
            assert answer.json()["error"]["code"] == "engine_ending"
            assert (await stream)[1] == "upstream_interrupted"

    asyncio.run(work())


def test_many_restarts_leave_nothing_behind(smollm_gguf: Path, tmp_path: Path) -> None:
    """Descriptors, threads, children and socket files are as many after eight ends as after two."""

    async def work() -> None:
        async with running(smollm_gguf, tmp_path / "run", patience=Patience(healthy_s=0.0, look_s=0.1)) as (engine, _):
            counts = []
            for number in range(8):
                os.kill(pid_of(engine), signal.SIGKILL)
                await until(lambda number=number: engine.generation == number + 2)  # type: ignore[misc]
                counts.append(what_is_held())
            assert counts[1:] == counts[1:2] * 7
            assert [path.name for path in (tmp_path / "run").iterdir()] == [engine.socket.name]
        assert not list((tmp_path / "run").iterdir())

    asyncio.run(work())


def what_is_held() -> tuple[int, int, int]:
    """Returns how many descriptors, threads and children this process has."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return len(list(Path("/proc/self/fd").iterdir())), threading.active_count(), len(children)
