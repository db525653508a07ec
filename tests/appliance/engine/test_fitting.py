"""Engines in a machine whose memory is short: refused with figures, tried again, and never promised the same memory."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from appliance.engine.facts import ModelFacts
from appliance.engine.fit import DoesNotFit, Fit, Wanted
from appliance.engine.fitting import Fitter, Room, read_facts
from appliance.engine.machine import Gpu, Machine
from appliance.engine.parent import Engine
from appliance.engine.reading import BytesReader
from bundler.format.errors import BadBundle, BadInput
from bundler.format.service import ModelSpec

MIB, GIB = 2**20, 2**30
SPEC = ModelSpec("smol", "models/smol.gguf", "ab" * 32, 512, 48)


@dataclass
class Memory:
    """A machine whose free memory a test sets."""

    free_bytes: int
    gpu_bytes: int = 0

    def look(self) -> Machine:
        gpus = (Gpu(0, "GPU-0", "Card", "570", self.gpu_bytes, self.gpu_bytes),) if self.gpu_bytes else ()
        return Machine(self.free_bytes, "the control group", gpus, "none", 2, 2, None)


@pytest.fixture(scope="module")
def smol(smollm_gguf: Path) -> ModelFacts:
    return read_facts(BytesReader(smollm_gguf.read_bytes()))


def test_what_one_engine_was_promised_another_does_not_get(smol: ModelFacts) -> None:
    """A promise counts until the process holds the memory, and no longer once it has ended."""
    memory, held = Memory(2500 * MIB), {7: 0}
    room = Room(memory.look, lambda process: held[process])
    first = room.take("first", smol, memory.look(), Wanted(2048, 16))
    assert first.plan.sequences == 16
    room.started("first", 7)
    second = room.take("second", smol, memory.look(), Wanted(2048, 16))
    assert second.free_bytes == memory.free_bytes - first.need.host_bytes
    assert second.plan.sequences < 16
    room.give_back("second")
    # The first has all it needs: the kernel counts it, and nothing is left to promise.
    held[7], memory.free_bytes = first.need.host_bytes, 2500 * MIB - first.need.host_bytes
    again = room.take("second", smol, memory.look(), Wanted(2048, 16))
    assert again.free_bytes == second.free_bytes
    room.give_back("first")
    assert room.take("second", smol, Memory(2500 * MIB).look(), Wanted(2048, 16)) == first


def test_what_a_child_takes_during_the_look_is_not_promised_again(smol: ModelFacts) -> None:
    """Free memory was read, and then the first child took its own: the second is not given it once more."""
    free, held = 2500 * MIB, {7: 0}
    memory = Memory(free)

    def look() -> Machine:
        found = memory.look()
        held[7] = free // 2  # after the reading
        return found

    room = Room(look, lambda process: held[process])
    first = room.claim("first", smol, Wanted(2048, 16))
    room.started("first", 7)
    held[7] = 0
    second = room.claim("second", smol, Wanted(2048, 16))
    assert second.free_bytes == free - first.need.host_bytes


def test_engines_that_start_together_are_fitted_one_after_the_other(smollm_gguf: Path) -> None:
    """No look begins before the last one's claim stands: all promises together fit the machine."""
    memory, inside, most = Memory(3000 * MIB), [0], [0]

    def look() -> Machine:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        found = memory.look()
        time.sleep(0.05)
        inside[0] -= 1
        return found

    room, data = Room(look, lambda process: 0), smollm_gguf.read_bytes()
    spec = replace(SPEC, context_tokens=2048)
    fitters = [Fitter(BytesReader(data), spec, room) for _ in range(3)]

    async def run() -> list[Fit]:
        return await asyncio.gather(*(fitter.fit() for fitter in fitters))

    fits = asyncio.run(run())
    assert most == [1]
    assert sum(found.need.host_bytes for found in fits) < memory.free_bytes


def test_gpu_memory_is_promised_while_a_child_loads(smol: ModelFacts) -> None:
    """The driver tells what a loaded child holds; before that the promise stands for it."""
    memory = Memory(8 * GIB, 2 * GIB)
    room = Room(memory.look, lambda process: 0)
    first = room.take("first", smol, memory.look(), Wanted(512, 4))
    assert first.plan.gpu_layers == 31
    second = room.take("second", smol, memory.look(), Wanted(512, 4))
    assert second.gpu_free_bytes == 2 * GIB - first.need.gpu_bytes
    room.give_back("second")
    room.loaded("first")
    memory.gpu_bytes = 2 * GIB - first.need.gpu_bytes
    assert room.take("second", smol, memory.look(), Wanted(512, 4)).gpu_free_bytes == memory.gpu_bytes


def test_a_refusal_promises_nothing(smol: ModelFacts) -> None:
    """Who was refused holds nothing back from the next."""
    memory = Memory(300 * MIB)
    room = Room(memory.look, lambda process: 0)
    with pytest.raises(DoesNotFit, match="limited by the control group"):
        room.take("first", smol, memory.look(), Wanted(512, 16))
    assert room.take("second", smol, Memory(4 * GIB).look(), Wanted(512, 16)).free_bytes == 4 * GIB


@pytest.mark.parametrize(("data", "error"), [(b"not a model" * 100, BadInput), (b"GGUF", BadInput)])
def test_bytes_that_are_no_header(data: bytes, error: type[Exception]) -> None:
    """Refused before any child is started."""
    with pytest.raises(error):
        read_facts(BytesReader(data))


def test_a_header_that_was_changed_is_a_bad_bundle(smollm_gguf: Path) -> None:
    """What the store's reader raises comes through the file around it."""

    class Damaged(BytesReader):
        def read_at(self, offset: int, buffer: memoryview) -> int:
            raise BadBundle("chunk 0123 is not what was signed")

    with pytest.raises(BadBundle, match="not what was signed"):
        read_facts(Damaged(b"GGUF"))


def test_the_header_is_read_in_bounded_memory(smollm_gguf: Path) -> None:
    """Windows of the header alone are asked for, and nothing of the tensors."""
    asked: list[tuple[int, int]] = []

    class Counting(BytesReader):
        def read_at(self, offset: int, buffer: memoryview) -> int:
            asked.append((offset, len(buffer)))
            return super().read_at(offset, buffer)

    reader = Counting(smollm_gguf.read_bytes())
    read_facts(reader)
    assert max(size for _, size in asked) <= MIB
    assert max(offset + size for offset, size in asked) < reader.size // 8


def engine(memory: Memory, data: bytes, folder: Path) -> Engine:
    room = Room(memory.look)
    return Engine(SPEC, BytesReader(data), runtime_dir=folder, threads=None, queue_requests=4, room=room)


def test_an_engine_without_memory_is_failed_with_the_figures(
    smollm_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No child is started; the state says why; it is tried again with longer and longer waits."""
    waits: list[float] = []
    rest = Engine._rest

    async def shortly(engine: Engine, wait_s: float) -> None:
        waits.append(wait_s)
        await rest(engine, 0.0 if len(waits) < 9 else 3600)

    found = engine(Memory(200 * MIB), smollm_gguf.read_bytes(), tmp_path)

    async def run() -> None:
        monkeypatch.setattr(Engine, "_rest", shortly)
        await found.start()
        assert (found.state, found.fit, found._child) == ("failed", None, None)
        assert "MiB of memory for one request of 512 tokens (weights 121 MiB" in found.reason
        assert "200 MiB are free, limited by the control group" in found.reason
        assert "raise the memory limit" in found.reason
        await until(lambda: len(waits) == 9)
        await found.stop()

    asyncio.run(run())
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


@pytest.mark.llm
def test_an_engine_comes_up_once_memory_is_free(smollm_gguf: Path, tmp_path: Path) -> None:
    """Refused at first; with memory it starts as its fit tells, and is fitted anew after its child ends."""
    memory = Memory(200 * MIB)
    found = engine(memory, smollm_gguf.read_bytes(), tmp_path)

    async def run() -> None:
        try:
            await found.start()
            assert found.state == "failed"
            memory.free_bytes = 900 * MIB
            await until(lambda: found.state == "ready")
            assert found.fit is not None
            assert (found.fit.plan.context_tokens, found.fit.free_bytes) == (512, 900 * MIB)
            assert 1 < found.fit.plan.sequences <= 16
            memory.free_bytes = 600 * MIB
            assert found._child is not None
            found._child.kill()
            await until(lambda: found.state == "ready" and found.generation == 2)
            assert found.fit.free_bytes == 600 * MIB
        finally:
            await found.stop()

    asyncio.run(run())


async def until(holds: object) -> None:
    for _ in range(1200):
        if holds():  # type: ignore[operator]
            return
        await asyncio.sleep(0.05)
    pytest.fail("it did not come to pass")


LIMITED = """
import asyncio, resource, sys
from pathlib import Path
from appliance.engine.parent import Engine
from appliance.engine.reading import BytesReader
from bundler.format.service import ModelSpec
data = Path(sys.argv[1]).read_bytes()
kind, limit_bytes = getattr(resource, sys.argv[3]), int(sys.argv[4])
async def run():
    engine = Engine(ModelSpec("smol", "a", "ab" * 32, 512, 48), BytesReader(data), runtime_dir=Path(sys.argv[2]),
                    threads=None, queue_requests=4)
    fit = engine._fitter.fit
    async def blind():  # plans by what was free before the limit came
        found = await fit()
        resource.setrlimit(kind, (limit_bytes, limit_bytes))
        return found
    if sys.argv[5] == "blind":
        engine._fitter.fit = blind
    else:
        resource.setrlimit(kind, (limit_bytes, limit_bytes))
    await engine.start()
    print(engine.state, "|", engine.reason)
    await engine.stop()
asyncio.run(run())
"""


@pytest.mark.llm
@pytest.mark.parametrize(
    ("mode", "limit_bytes", "words"),
    [
        ("seen", 330 * MIB, ("needs", "MiB of memory for one request of 512 tokens", "limited by the process's limit")),
        ("blind", 200 * MIB, ("alloc",)),
    ],
)
def test_a_real_limit_refuses_and_does_not_kill(
    smollm_gguf: Path, tmp_path: Path, mode: str, limit_bytes: int, words: tuple[str, ...]
) -> None:
    """Under a limit of the kernel: refused with figures before the child, and told in words where it comes too late."""
    arguments = [str(smollm_gguf), str(tmp_path), "RLIMIT_DATA", str(limit_bytes), mode]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *arguments], capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stderr
    state, _, reason = done.stdout.partition(" | ")
    assert state == "failed"
    assert all(word in reason for word in words), reason


def test_threads_that_are_asked_for_win(smollm_gguf: Path, tmp_path: Path) -> None:
    """A number given to the engine goes before what suits the machine."""
    room = Room(Memory(4 * GIB).look)
    asked = Engine(
        SPEC, BytesReader(smollm_gguf.read_bytes()), runtime_dir=tmp_path, threads=1, queue_requests=4, room=room
    )

    async def plan() -> tuple[int, int]:
        found = await asked._fit()
        return found.plan.threads, found.plan.batch_threads

    assert asyncio.run(plan()) == (1, 1)


def test_a_claim_is_replaced_not_added(smol: ModelFacts) -> None:
    """An engine that starts again is not held back by its own last promise."""
    memory = Memory(2 * GIB)
    room = Room(memory.look, lambda process: 0)
    first = room.take("one", smol, memory.look(), Wanted(512, 16))
    assert room.take("one", smol, memory.look(), Wanted(512, 16)) == replace(first)


GUESSED = """
import sys
from pathlib import Path
from appliance.engine.fit import Plan
from appliance.engine.lookup import MOST_GUESSES
from appliance.engine.model import Model
from appliance.engine.reading import BytesReader
from appliance.engine.step import Row
plan = Plan(0, 512, 1, "f16", flash=False, threads=1, batch_threads=1)
model = Model(BytesReader(Path(sys.argv[1]).read_bytes()), plan)
print(model.decode([Row(1, 0, 100 + place, place, wanted=True) for place in range(1 + MOST_GUESSES)]))
"""


@pytest.mark.llm
def test_one_sequence_has_room_for_the_logits_of_its_guesses(smollm_gguf: Path) -> None:
    """llama.cpp ends the process where a batch wants more rows than it was told of: guesses want one each."""
    words = [sys.executable, "-c", GUESSED, str(smollm_gguf)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=200)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
