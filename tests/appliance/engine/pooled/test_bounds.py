"""What requests for vectors and rankings may take of memory and time, and how they are told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer

from appliance.engine.allowance import Allowance, Share
from appliance.engine.cutting import Cutter
from appliance.engine.options import Refused

pytestmark = pytest.mark.llm


class Letters:
    """A tokenizer of one letter a token, or of one word."""

    vocabulary_size = 128

    def __init__(self, *, cuts_words: bool = False) -> None:
        self.cuts_words, self.seen = cuts_words, list[str]()

    def piece(self, token: int, *, special: bool = False) -> bytes:
        return bytes([token])

    def tokenize(self, text: str, *, special: bool, begins: bool = False) -> list[int]:
        self.seen.append(text)
        return [7] * len(text.split()) if self.cuts_words else list(text.encode())


class Model(Letters):
    """A model of vectors; one of a text with a "!" has no numbers."""

    longest_tokens, width = 10, 4

    def template(self, _: bytes) -> str:
        return ""

    def cut_text(self, text: str, what: str) -> list[int]:
        return Cutter(self, self.longest_tokens).cut(text, what, special=False)


class Worker:
    """Gives rows once it is let."""

    def __init__(self) -> None:
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def rows(self, texts: Sequence[Sequence[int]], _: str) -> Any:
        self.asked.set()
        await self.go.wait()
        return np.array([[np.nan if ord("!") in text else 1.0] * 4 for text in texts], np.float32)


def test_one_request_and_all_together_have_a_bound() -> None:
    """Too much for one is 400, too much beside others 429; all is given back, and who is over takes nothing more."""
    allowance = Allowance(10, "tokens")
    with Share(allowance) as one, Share(allowance) as two:
        one.take(6)
        two.take(4)
        with pytest.raises(Refused, match="at most 10 tokens") as mine:
            one.take(5)
        with pytest.raises(Refused, match="hold 10 tokens of 10") as theirs:
            two.take(1)
        assert (mine.value.status, theirs.value.status) == (400, 429)
    with pytest.raises(Refused, match="is over"):
        one.take(1)
    with Share(allowance) as next_one:
        next_one.take(10)


def test_what_cannot_fit_is_not_cut() -> None:
    """Its bytes tell; words of any length are one token each where the vocabulary has it so."""
    letters, words = Letters(), Letters(cuts_words=True)
    with pytest.raises(Refused, match="input 3 has 11 bytes") as caught:
        Cutter(letters, 10).cut("x" * 11, "input 3", special=False)
    assert (caught.value.code, letters.seen) == ("context_length_exceeded", [])
    assert Cutter(words, 10).cut("x" * 99 + " " * 99, "it", special=False) == [7]
    with pytest.raises(Refused):
        Cutter(words, 10).cut("x " * 11, "it", special=False)


def asked(work: Any) -> Any:
    """Runs `work` with a client of the wire, and its worker."""
    from appliance.engine.desk import Desk
    from appliance.engine.pooled_wire import PooledWire

    async def run() -> Any:
        model: Any = Model()
        model.cut = model.cut_text
        worker: Any = Worker()
        order = {"name": "vec", "serves": "embedding", "queue_requests": 9}
        app = PooledWire(model, order, worker, Desk(lambda: None)).app()
        async with TestClient(TestServer(app)) as client:
            try:
                return await asyncio.wait_for(work(client, worker), 30)
            finally:
                worker.go.set()

    return asyncio.run(run())


async def status_and_error(client: Any, body: Any, **headers: str) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with client.post("/v1/embeddings", data=data, headers=headers) as reply:
        return reply.status, (await reply.json()).get("error")


def test_beside_a_large_request_others_are_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """429 while its tokens, or the numbers of its answer, are in hand; afterwards there is room again."""
    monkeypatch.setattr("appliance.engine.pooled_wire.MOST_TOKENS", 12)
    monkeypatch.setattr("appliance.engine.pooled_wire.MOST_VALUES", 8)

    async def work(client: Any, worker: Worker) -> None:
        large = asyncio.create_task(status_and_error(client, {"input": "abcdefghi"}))
        await worker.asked.wait()
        for inputs in ("abcd", ["a", "b"]):
            status, error = await status_and_error(client, {"input": inputs})
            assert (status, error["code"]) == (429, "queue_full")
        worker.go.set()
        assert (await large)[0] == 200
        assert (await status_and_error(client, {"input": ["abcd", "b"]}))[0] == 200

    asked(work)


def test_refusals_have_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that is too large, a standing that is none, and a text of which the model makes no numbers."""
    monkeypatch.setattr("appliance.engine.pooled_wire.BODY_BYTES", 1000)

    async def work(client: Any, worker: Worker) -> None:
        worker.go.set()
        status, error = await status_and_error(client, b" " * 2000)
        assert (status, error["code"], error["type"]) == (413, "request_too_large", "invalid_request_error")
        status, error = await status_and_error(client, {"input": "a"}, **{"X-Lifeboat-Priority": "first"})
        assert (status, error["code"]) == (400, "invalid_request")
        status, error = await status_and_error(client, {"input": ["a", "b", "c!"]})
        assert (status, error["code"]) == (500, "engine_error")
        assert "input 2" in error["message"]

    asked(work)


def test_a_query_is_cut_once(tiny_bert: Any, write_bert: Any) -> None:
    """For all documents, where the model has no template of its own; what comes out is the pair as before."""
    from appliance.engine.fit import Plan
    from appliance.engine.pooled import PooledModel
    from appliance.engine.reading import BytesReader

    words = "[PAD] [UNK] [CLS] [SEP] [MASK] boat ship sea life save the a of cloud rain".split()
    plan = Plan(0, 64, 1, "f16", flash=False, threads=1, batch_threads=1)
    model = PooledModel(BytesReader(write_bert(tiny_bert, words, 4, 4)), plan, "rerank")
    cut, tokenize = list[str](), model.tokenize

    def counted(text: str, **options: Any) -> list[int]:
        cut.append(text)
        return tokenize(text, **options)

    model.tokenize = counted  # type: ignore[method-assign]
    pair = model.pairing("the boat")
    assert [pair(document, "it") for document in ("rain", "sea")] == [[2, 10, 5, 3, 14, 3], [2, 10, 5, 3, 7, 3]]
    assert cut == ["the boat", "rain", "sea"]
