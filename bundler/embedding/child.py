"""The embedding model of a build, in a child that holds no key and has no network.

Its graph and its tokenizer are foreign. Texts go in over one pipe, vectors come back over another.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np

from bundler import confined_child
from bundler.confine import Confinement
from bundler.confined_session import ANSWERS, ASKED, Session, received, send
from bundler.format.errors import BadInput
from bundler.format.limits import GIB, MIB
from bundler.knowledge.reading import OURS, Reading, Vectors

# A question's texts; the wait for an answer allows for the longest texts, the largest models and a busy machine.
_TEXTS = 512
_START_S, _TEXT_S = 900.0, 60.0
# A thread's stack and its share of the allocator count as memory that is taken (RLIMIT_AS).
_THREAD_BYTES = 160 * MIB
_DIMENSIONS_MOST, _TOKENS_MOST = 65_536, 1_000_000


class ConfinedEncoder:
    """As `knowledge.encoder.Encoder`, but the model runs in a confined child.

    Args:
        graph: The ONNX file.
        tokenizer: `tokenizer.json`.
        max_tokens: Longer texts are cut.
        reading: How the graph is read.
        threads: How many batches run at once.

    Attributes:
        runtime: The version of ONNX Runtime that computes.
        passages_differ: "" where a passage gets the same row as a question of the same words, else a mark.

    Raises:
        BadInput: The model does not load, or an answer is not what vectors are.
    """

    def __init__(
        self, graph: Path, tokenizer: Path, *, max_tokens: int, reading: Reading = OURS, threads: int | None = None
    ) -> None:
        self.passages_differ = "" if reading.passage_prefix == reading.query_prefix else "passage\x00"
        count = threads or len(os.sched_getaffinity(0))
        size = graph.stat().st_size
        limits = Confinement(
            # Loaded, optimised and packed for the processor, the weights are there up to four times.
            memory_bytes=4 * GIB + 6 * size + count * _THREAD_BYTES,
            cpu_s=10_000_000,
            wall_s=_START_S,
            output_bytes=MIB,
            threads=count,
        )
        request = {"max_tokens": max_tokens, "threads": count, "reading": asdict(reading)}
        files = {"graph": graph, "tokenizer": tokenizer}
        self._session = Session("bundler.embedding.child:serve", request, files, limits, "the embedding model")
        with self._ended():
            facts = _parsed(self._session.first(4096))
            self.dimensions, self.precision, self.identity, self.runtime, self.provider = _facts(facts)

    def count_tokens(self, text: str) -> int:
        """Returns the tokens of a text after cutting, special tokens included."""
        with self._ended():
            count = _parsed(self._session.ask(json.dumps({"count": text}).encode(), 32, _START_S))
            if type(count) is not int or not 0 <= count <= _TOKENS_MOST:
                raise BadInput("the embedding model counts tokens as no number")
            return count

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Returns one L2-normalised row a question or wording, shape (len(texts), dimensions)."""
        return self._embedded("query", texts)

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Returns one row a passage, as `embed`."""
        return self._embedded("passage", texts)

    def close(self) -> None:
        """Ends the child."""
        self._session.close()

    @contextmanager
    def _ended(self) -> Iterator[None]:
        """Ends the child where what it says is refused: nothing that it says later is worth more."""
        try:
            yield
        except BadInput:
            self.close()
            raise

    def _embedded(self, kind: str, texts: Sequence[str]) -> Vectors:
        with self._ended():
            return self._rows(kind, texts)

    def _rows(self, kind: str, texts: Sequence[str]) -> Vectors:
        rows = np.zeros((len(texts), self.dimensions), np.float32)
        for start in range(0, len(texts), _TEXTS):
            part = list(texts[start : start + _TEXTS])
            expected = len(part) * self.dimensions * 4
            question = json.dumps({kind: part}).encode()
            answer = self._session.ask(question, expected, _START_S + _TEXT_S * len(part))
            if len(answer) != expected:
                raise BadInput(f"the embedding model answers {len(part)} texts with {len(answer)} bytes")
            rows[start : start + len(part)] = np.frombuffer(answer, "<f4").reshape(len(part), self.dimensions)
        if not np.isfinite(rows).all():
            raise BadInput("the embedding model gives values that are not finite")
        return rows


def serve(request: Mapping[str, Any], inputs: Mapping[str, IO[bytes]], outputs: Mapping[str, IO[bytes]]) -> None:
    """The child's side: reads `graph` and `tokenizer`, then answers until the parent closes `asked`."""
    import onnxruntime  # only the child loads the native library

    from bundler.knowledge.encoder import Encoder

    encoder = Encoder(
        inputs["graph"].read(),
        inputs["tokenizer"].read(),
        max_tokens=request["max_tokens"],
        threads=request["threads"],
        reading=Reading(**request["reading"]),
        pool=confined_child.pool(),
    )
    facts = [encoder.dimensions, encoder.precision, encoder.identity, onnxruntime.__version__, encoder.provider]
    send(outputs[ANSWERS], json.dumps(facts).encode())
    for question in received(inputs[ASKED]):
        if "count" in question:
            send(outputs[ANSWERS], json.dumps(encoder.count_tokens(question["count"])).encode())
            continue
        rows = encoder.embed(question["query"]) if "query" in question else encoder.embed_passages(question["passage"])
        send(outputs[ANSWERS], rows.astype("<f4").tobytes())


def _parsed(said: bytes) -> Any:
    try:
        return json.loads(said)
    except (ValueError, RecursionError):  # no JSON, no text, or nested to break the reader
        return None


def _facts(said: Any) -> tuple[int, str, str, str, str]:
    good = isinstance(said, list) and len(said) == 5 and all(isinstance(item, str) for item in said[1:])
    if not good or type(said[0]) is not int or not 1 <= said[0] <= _DIMENSIONS_MOST:
        raise BadInput("the embedding model says nothing of itself that could be read")
    return (said[0], said[1], said[2], said[3], said[4])
