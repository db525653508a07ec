import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import AsyncOpenAI, BadRequestError

from appliance.engine.parent import Engine
from appliance.engine.reading import BytesReader, ReadAt
from bundler.format.errors import BadBundle
from bundler.format.service import ModelSpec

pytestmark = pytest.mark.llm


class DamagedReader(BytesReader):
    """A model whose middle is not what was signed."""

    def read_at(self, offset: int, buffer: memoryview) -> int:
        if offset + len(buffer) > self.size // 2:
            raise BadBundle("chunk 0123 is not what was signed")
        return super().read_at(offset, buffer)


@pytest.fixture(scope="session")
def gguf(smollm_gguf: Path) -> bytes:
    return smollm_gguf.read_bytes()


def with_engine(
    reader: ReadAt,
    folder: Path,
    work: Callable[[Engine], Awaitable[Any]],
    *,
    queue: int = 8,
    context: int = 512,
    most_tokens: int = 48,
) -> Any:
    """Runs `work` with a started engine and stops it whatever happens."""
    folder.mkdir(exist_ok=True)
    digest = hashlib.sha256(b"model").hexdigest()
    spec = ModelSpec("smol", "models/smol.gguf", digest, context, most_tokens)

    async def run() -> Any:
        engine = Engine(spec, reader, runtime_dir=folder, threads=2, queue_requests=queue)
        try:
            await engine.start()
            return await work(engine)
        finally:
            await engine.stop()

    return asyncio.run(run())


def client(engine: Engine) -> AsyncOpenAI:
    transport = httpx2.AsyncHTTPTransport(uds=str(engine.socket))
    http = httpx2.AsyncClient(transport=transport)
    return AsyncOpenAI(base_url="http://engine/v1", api_key="none", max_retries=0, http_client=http)  # type: ignore[arg-type, unused-ignore]


def said(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_two_chats_at_once_both_finish_whole(gguf: bytes, tmp_path: Path) -> None:
    """Neither is cut; a stream equals the plain answer at temperature 0, from a prompt that was kept."""

    async def work(engine: Engine) -> None:
        assert (engine.state, engine.device) == ("ready", "cpu")
        async with client(engine) as openai:
            one, two = await asyncio.gather(
                openai.chat.completions.create(model="smol", messages=said("Name a colour."), temperature=0),
                openai.chat.completions.create(model="smol", messages=said("Name an animal."), temperature=0),
            )
            for answer in (one, two):
                assert answer.choices[0].message.content
                assert answer.choices[0].finish_reason in ("stop", "length")
                assert answer.system_fingerprint == hashlib.sha256(b"model").hexdigest()[:12]
            stream = await openai.chat.completions.create(
                model="smol",
                messages=said("Name a colour."),
                temperature=0,
                stream=True,
                stream_options={"include_usage": True},
            )
            chunks = [chunk async for chunk in stream]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == one.choices[0].message.content
        usage = chunks[-1].usage
        assert usage is not None
        assert one.usage is not None
        assert (usage.prompt_tokens, usage.completion_tokens) == (one.usage.prompt_tokens, one.usage.completion_tokens)
        assert usage.prompt_tokens_details is not None
        assert usage.prompt_tokens_details.cached_tokens == usage.prompt_tokens - 2

    with_engine(BytesReader(gguf), tmp_path / "run", work)


def test_over_long_prompts_and_unsupported_options_are_told(gguf: bytes, tmp_path: Path) -> None:
    """400 with OpenAI's code and the figures; the engine goes on."""

    async def work(engine: Engine) -> None:
        async with client(engine) as openai:
            with pytest.raises(BadRequestError, match="context of the local model 512") as caught:
                await openai.chat.completions.create(model="smol", messages=said("word " * 900))
            assert caught.value.code == "context_length_exceeded"
            with pytest.raises(BadRequestError, match="suffix is not supported"):
                await openai.completions.create(model="smol", prompt="x", suffix="y")
            answer = await openai.completions.create(model="smol", prompt="One, two, three,", max_tokens=4, seed=1)
            assert answer.choices[0].text

    with_engine(BytesReader(gguf), tmp_path / "run", work)


def test_what_no_tokenizer_takes_is_told(gguf: bytes, tmp_path: Path) -> None:
    """Half a surrogate pair, deep nesting and megabytes of text are 400, and leave nothing behind."""
    deep: Any = {}
    for _ in range(900):
        deep = {"items": deep}
    tool = {"type": "function", "function": {"name": "f", "parameters": deep}}
    words = '{"messages": [{"role": "user", "content": %s}], "max_tokens": 2, "tools": %s}'
    bodies = [
        words % ('"\\ud800"', "null"),
        words % ('"x"', json.dumps([tool])),
        words % (json.dumps("a" * 10**6), "null"),
    ]

    async def work(engine: Engine) -> None:
        transport = httpx2.AsyncHTTPTransport(uds=str(engine.socket))
        async with httpx2.AsyncClient(transport=transport, timeout=60) as http:
            asked = [await http.post("http://e/v1/chat/completions", content=body.encode()) for body in bodies]
            assert [answer.status_code for answer in asked] == [400] * 3, [answer.text for answer in asked]
            codes = [answer.json()["error"]["code"] for answer in asked]
            assert codes == ["invalid_request", "invalid_request", "context_length_exceeded"]
            assert (await http.get("http://e/health")).json()["requests"] == 0

    with_engine(BytesReader(gguf), tmp_path / "run", work)


def test_a_full_queue_answers_429(gguf: bytes, tmp_path: Path) -> None:
    """Beyond the bound a request is refused at once, with Retry-After."""

    async def work(engine: Engine) -> None:
        transport = httpx2.AsyncHTTPTransport(uds=str(engine.socket))
        async with httpx2.AsyncClient(transport=transport, timeout=60) as http:
            body = {"messages": said("Tell me a story.")}
            asked = [http.post("http://e/v1/chat/completions", json=body) for _ in range(20)]
            answers = await asyncio.gather(*asked)
        codes = sorted(answer.status_code for answer in answers)
        assert codes == [200] * 17 + [429] * 3  # sixteen at once, one waits
        assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 429)

    with_engine(BytesReader(gguf), tmp_path / "run", work, queue=1)


def test_a_client_that_leaves_frees_the_engine(gguf: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an engine of one place the next is answered after few steps, where the one who left had asked for 1,500."""
    monkeypatch.setattr("appliance.engine.fit.SEQUENCES", 1)

    def steps(engine: Engine) -> int:
        assert engine._child is not None
        return int.from_bytes(engine._child.signs().work[-8:], "little")

    async def work(engine: Engine) -> None:
        transport = httpx2.AsyncHTTPTransport(uds=str(engine.socket))
        async with client(engine) as openai, httpx2.AsyncClient(transport=transport) as http:
            stream = await openai.completions.create(
                model="smol", prompt="Once", stream=True, max_tokens=1500, extra_body={"ignore_eos": True}
            )
            await anext(aiter(stream))
            asked = asyncio.create_task(openai.completions.create(model="smol", prompt="Hi", max_tokens=3))
            while (health := (await http.get("http://e/health")).json())["waiting"] == 0:
                assert health["running"] == 1
            left = steps(engine)
            await stream.close()
            assert (await asked).choices[0].text
            assert steps(engine) - left < 150
            assert (await http.get("http://e/health")).json() == {
                "state": "ready", "requests": 0, "running": 0, "waiting": 0
            }  # fmt: skip

    with_engine(BytesReader(gguf), tmp_path / "run", work, context=2048, most_tokens=1500)


@pytest.mark.parametrize("damage", ["digest", "garbage"])
def test_a_model_that_is_not_one_is_refused_with_its_reason(gguf: bytes, tmp_path: Path, damage: str) -> None:
    """A chunk that fails its digest, or bytes that are no GGUF: state failed, the reason kept, no storm of retries."""
    reader = DamagedReader(gguf) if damage == "digest" else BytesReader(b"not a model" * 1000)

    async def work(engine: Engine) -> tuple[str, str]:
        await asyncio.sleep(0.5)
        return engine.state, engine.reason

    state, reason = with_engine(reader, tmp_path / "run", work)
    assert state == "failed"
    assert "not what was signed" in reason if damage == "digest" else reason
