"""A machine that cannot start the engine: told, tried again, and never a supervisor that hangs."""

from __future__ import annotations

import asyncio
import errno
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.engine.memory import lacks_memory
from appliance.engine.parent import Engine
from appliance.engine.reading import BytesReader
from appliance.engine.watchdog import may_heal
from bundler.format.errors import BadBundle, BadInput, FileMissing, SystemFailed
from bundler.format.service import ModelSpec


def test_a_process_that_cannot_be_made_is_told(smollm_gguf: Path, tmp_path: Path) -> None:
    """`start` returns, the reason holds the system's words, and `stop` ends it."""
    spec = ModelSpec("smol", "models/smol.gguf", "ab" * 32, 512, 48)

    model = smollm_gguf.read_bytes()

    async def run() -> tuple[str, str]:
        missing = [str(tmp_path / "no-such-program")]
        reader = BytesReader(model)
        engine = Engine(spec, reader, runtime_dir=tmp_path, threads=2, queue_requests=8, command=missing)
        await asyncio.wait_for(engine.start(), 60)
        state, reason = engine.state, engine.reason
        await asyncio.wait_for(engine.stop(), 60)
        return state, reason

    state, reason = asyncio.run(run())
    assert state == "failed"
    assert "cannot be started" in reason
    assert "no-such-program" in reason


def test_waits_grow_also_after_a_child_that_had_served(
    smollm_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour of service counts for the first failure after it, and not for those that follow."""
    spec = ModelSpec("smol", "models/smol.gguf", "ab" * 32, 512, 48)
    waits: list[float] = []
    model = smollm_gguf.read_bytes()

    async def run() -> None:
        missing = [str(tmp_path / "no-such-program")]
        reader = BytesReader(model)
        engine = Engine(spec, reader, runtime_dir=tmp_path, threads=2, queue_requests=8, command=missing)
        engine._ready_s = -100_000.0

        async def rest(wait_s: float) -> None:
            waits.append(wait_s)
            if len(waits) == 4:
                enough.set()
                await engine._stopping.wait()

        enough = asyncio.Event()
        monkeypatch.setattr(engine, "_rest", rest)
        await asyncio.wait_for(engine.start(), 60)
        await asyncio.wait_for(enough.wait(), 60)
        await asyncio.wait_for(engine.stop(), 60)

    asyncio.run(run())
    assert waits == sorted(waits)
    assert waits[-1] >= 4 * waits[0] > 0


class Pulled(BytesReader):
    """A model on a medium that is pulled while it is read, and put back after two tries."""

    def __init__(self, data: bytes, readable: int, error: type[Exception]) -> None:
        super().__init__(data)
        self._readable, self._error, self.tries = readable, error, 0

    def read_at(self, offset: int, buffer: memoryview) -> int:
        if offset >= self._readable and self.tries < 2:
            self.tries += 1
            words = (errno.EIO, "Input/output error") if self._error is OSError else ("the disk is gone",)
            raise self._error(*words)
        return super().read_at(offset, buffer)


@pytest.mark.llm
@pytest.mark.parametrize("error", [OSError, SystemFailed, FileMissing])
@pytest.mark.parametrize("place", [0, 40 * 10**6])
def test_a_medium_that_comes_back_is_read_again(
    smollm_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception], place: int
) -> None:
    """In the header or in the midst of the weights: told, tried again with growing waits, and ready in the end."""
    spec = ModelSpec("smol", "models/smol.gguf", "ab" * 32, 512, 48)
    reader, waits, reasons = Pulled(smollm_gguf.read_bytes(), place, error), list[float](), list[str]()

    async def run() -> None:
        engine = Engine(spec, reader, runtime_dir=tmp_path, threads=2, queue_requests=8)

        async def rest(wait_s: float) -> None:
            waits.append(wait_s)
            reasons.append(engine.reason)
            await asyncio.sleep(0)

        monkeypatch.setattr(engine, "_rest", rest)
        try:
            await engine.start()
            for _ in range(2400):
                if engine.state == "ready":
                    return
                await asyncio.sleep(0.05)
            pytest.fail(engine.reason)
        finally:
            await engine.stop()

    asyncio.run(run())
    assert waits == [1, 2][: len(waits)]
    assert all("Input/output error" in reason or "the disk is gone" in reason for reason in reasons)
    assert waits


def test_what_was_read_and_is_wrong_stays_wrong() -> None:
    """Only what the system refuses, or a file that is not there now, is worth another try."""
    healing: list[Exception] = [OSError(errno.EIO, "x"), SystemFailed("x"), FileMissing("x")]
    assert [may_heal(failure) for failure in healing] == [True] * 3
    assert [may_heal(failure) for failure in (BadBundle("x"), BadInput("x"))] == [False] * 2


@pytest.mark.parametrize(
    ("line", "lacks"),
    [
        ("ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 96636764160", True),
        ("llama_init_from_model: failed to initialize the context: std::bad_alloc", True),
        ("llama_init_from_model: failed to initialize the context: failed to allocate buffer for kv cache", True),
        ("graph_reserve: failed to allocate compute buffers", True),
        ("llama_context: failed to reserve compute buffers", True),
        ("alloc_tensor_range: failed to allocate CPU buffer of size 9663676416", True),
        ("llama_model_load: error loading model: unable to allocate CPU buffer", True),
        ("ggml_gallocr_reserve_n_impl: failed to allocate CPU buffer of size 309420032", True),
        (
            "alloc_buffer: allocating 9 MiB on device 0: cudaMalloc failed: out of memory",
            True,
        ),
        ("llama_init_from_model: quantized V cache requires flash_attn to be enabled", False),
        ("llama_model_load: error loading model: unknown model architecture: 'allocator'", False),
        ("llama_model_load: error loading model: missing tensor 'blk.0.attn_q.weight'", False),
        ("gguf_init_from_file_impl: invalid magic characters: 'not ', expected 'GGUF'", False),
    ],
)
def test_what_llama_cpp_says_of_memory(line: str, lacks: bool) -> None:
    """A lack of memory may pass, and a model that is no good does not; what was said last decides nothing alone."""
    assert lacks_memory(["llama_model_load_from_file_impl: failed to load model", line]) is lacks
    assert lacks_memory([])


NO_CONTEXT = """
import resource, sys
from pathlib import Path
from appliance.engine.fit import Plan
from appliance.engine.model import Model
from appliance.engine.weights import LoadFailed
from appliance.engine.reading import BytesReader
data = Path(sys.argv[1]).read_bytes()
if sys.argv[2] == "unsupported":
    plan = Plan(0, 512, 1, "q8_0", flash=False, threads=1, batch_threads=1)
else:
    plan = Plan(0, 524288, 16, "f16", flash=False, threads=1, batch_threads=1)
    resource.setrlimit(resource.RLIMIT_DATA, (500 * 2**20, 500 * 2**20))
try:
    Model(BytesReader(data), plan)
except LoadFailed as error:
    print(type(error).__name__, error)
"""


@pytest.mark.llm
@pytest.mark.parametrize(
    ("why", "kind", "words"), [("unsupported", "LoadFailed", "requires flash_attn"), ("memory", "NoMemory", "alloc")]
)
def test_a_context_that_is_not_made_says_why(smollm_gguf: Path, why: str, kind: str, words: str) -> None:
    """llama.cpp's own words are kept, past the dots of its progress, and tell memory from what it does not support."""
    command = [sys.executable, "-c", NO_CONTEXT, str(smollm_gguf), why]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.stdout.startswith(f"{kind} no context of"), done.stderr
    assert words in done.stdout
