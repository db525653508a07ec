"""The embedding model: an ONNX graph with its tokenizer, both from bytes.

Calls from several threads share batches (`batching` decides which); a batch runs on one thread, and as many run at once
as there are cores. So no core waits for another within a text, and nothing spins beside a language model.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Hashable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import astuple, dataclass

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from bundler.format import canonical
from bundler.format.errors import BadInput, Busy
from bundler.knowledge.batching import Batcher
from bundler.knowledge.reading import FINISHED_OUTPUT, OURS, Reading, Vectors, pooled

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
PRECISION_KEY = "lifeboat.precision"
# On a CPU a batch should stay in a core's second-level cache; a GPU wants to be filled.
_CPU_BATCH_TOKENS, _GPU_BATCH_TOKENS = 256, 16_384
_WAITING_TOKENS, _WAITING_REQUESTS = 2_000_000, 1_024
_ERRORS_ONLY = 3
# Two passes in place of the one that it fuses, and seven times as fast (measured, ONNX Runtime 1.31, AVX-512).
_SLOW_ON_CPU = ["SkipLayerNormFusion"]


@dataclass
class _Asked:
    """A request: its texts as token ids, the rows that are done, and who waits for them."""

    ids: Sequence[Sequence[int]]
    vectors: Vectors
    left: int
    done: Future[Vectors]


class Encoder:
    """Turns texts into vectors. Safe to share between threads.

    Args:
        onnx: The graph; inputs `input_ids`, `attention_mask` and perhaps `token_type_ids`.
        tokenizer: `tokenizer.json`.
        max_tokens: Longer texts are cut.
        providers: Execution providers in order of preference; the first that works is `provider`.
        threads: How many batches run at once on a CPU; a core each is right.
        reading: Which output is taken and what is done with it, and what goes before texts.
        pool: Threads that are there already, `threads` of them; None starts its own.

    Attributes:
        provider: The execution provider really in use.
        precision: Of the graph: "fp32", "int8" or "fp16".
        identity: Digest of graph, tokenizer, length and reading: vectors of another are not comparable.

    Raises:
        BadInput: The tokenizer's ids do not fit, or the bytes are no model.
    """

    def __init__(
        self,
        onnx: bytes,
        tokenizer: bytes,
        *,
        max_tokens: int,
        providers: Sequence[str] = (CPU,),
        threads: int = 1,
        reading: Reading = OURS,
        pool: Executor | None = None,
    ) -> None:
        try:
            self._session = _session(onnx, providers)
            self._tokenizer = Tokenizer.from_str(tokenizer.decode())
        except Exception as error:  # both libraries raise bare Exception subclasses of their own
            raise BadInput(f"the embedding model does not load: {error}") from error
        self._tokenizer.enable_truncation(max_tokens)
        self._tokenizer.no_padding()
        self.provider: str = self._session.get_providers()[0]
        self._reading, self._output = reading, reading.output or FINISHED_OUTPUT
        self._inputs = {item.name for item in self._session.get_inputs()}
        said = self._session.get_modelmeta().custom_metadata_map
        # A graph that was taken as it came says nothing that we would believe.
        self.precision: str = reading.precision if reading.output else said.get(PRECISION_KEY, "fp32")
        self.identity = identity_of(onnx, tokenizer, max_tokens, reading)
        self.dimensions: int = self._width()
        on_cpu = self.provider == CPU
        self._workers = threads if on_cpu else 1
        batch_tokens = _CPU_BATCH_TOKENS if on_cpu else _GPU_BATCH_TOKENS
        self._batcher = Batcher(batch_tokens, _WAITING_TOKENS, _WAITING_REQUESTS)
        self._lock = threading.Lock()
        self._asked: dict[Hashable, _Asked] = {}
        self._number, self._working = 0, 0
        self._pool = pool or ThreadPoolExecutor(self._workers, thread_name_prefix="embedding")

    def count_tokens(self, text: str) -> int:
        """Returns the tokens of a text after cutting, special tokens included."""
        return len(self._tokenizer.encode(text).ids)

    def tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the token ids of each text, cut to the model's length."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Returns one L2-normalised row a question or wording, shape (len(texts), dimensions).

        Raises:
            Busy: Too much waits already.
        """
        return self._embedded(self._reading.query_prefix, texts)

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Returns one row a passage, as `embed`."""
        return self._embedded(self._reading.passage_prefix, texts)

    def _embedded(self, prefix: str, texts: Sequence[str]) -> Vectors:
        return self.submit(self.tokenise([prefix + text for text in texts] if prefix else texts)).result()

    def submit(self, ids: Sequence[Sequence[int]]) -> Future[Vectors]:
        """Queues token ids (of `tokenise`); the future gives what `embed` returns, or what went wrong with these texts.

        A future that is cancelled gives up what has not been computed yet.

        Raises:
            Busy: Too much waits already.
        """
        asked = _Asked(ids, np.zeros((len(ids), self.dimensions), np.float32), len(ids), Future())
        lengths = [len(row) for row in ids]
        if not ids:
            asked.done.set_result(asked.vectors)
            return asked.done
        with self._lock:
            if not self._batcher.has_room(lengths):
                raise Busy(f"{self._batcher.waiting_tokens} tokens wait to be embedded", "try again in a moment")
            self._number += 1
            self._asked[self._number] = asked
            self._batcher.add(self._number, lengths)
            more = min(self._workers - self._working, len(ids))
            self._working += more
        for _ in range(more):
            self._pool.submit(self._work)
        return asked.done

    def _work(self) -> None:
        """Computes batches until nothing waits."""
        while batch := self._next():
            parts: dict[Hashable, list[int]] = {}
            for key, row in batch:
                parts.setdefault(key, []).append(row)
            if not self._compute(parts) and len(parts) > 1:
                for key, rows in parts.items():  # one request's fault is not its neighbours'
                    self._compute({key: rows})

    def _next(self) -> list[tuple[Hashable, int]]:
        with self._lock:
            for key in [key for key, asked in self._asked.items() if asked.done.cancelled()]:
                self._forget(key)
            batch = self._batcher.take()
            self._working -= not batch
            return batch

    def _compute(self, parts: dict[Hashable, list[int]]) -> bool:
        """Runs rows of one or more requests; a failure is told to the request if it is alone."""
        with self._lock:
            asked = {key: self._asked[key] for key in parts if key in self._asked}
        rows = [(found, row) for key, found in asked.items() for row in parts[key]]
        if not rows:
            return True
        try:
            vectors = self._run([found.ids[row] for found, row in rows])
        except Exception as error:  # noqa: BLE001 - whatever it is, the request that it belongs to hears it
            if len(asked) == 1:
                self._fail(next(iter(asked)), error)
            return False
        for (found, row), vector in zip(rows, vectors, strict=True):
            found.vectors[row] = vector
        for key, found in asked.items():
            self._deliver(key, found, len(parts[key]))
        return True

    def _deliver(self, key: Hashable, asked: _Asked, rows: int) -> None:
        with self._lock:
            asked.left -= rows
            if asked.left:
                return
            self._forget(key)
        if asked.done.set_running_or_notify_cancel():
            asked.done.set_result(asked.vectors)

    def _fail(self, key: Hashable, error: Exception) -> None:
        with self._lock:
            asked = self._forget(key)
        if asked is not None and asked.done.set_running_or_notify_cancel():
            asked.done.set_exception(error)

    def _forget(self, key: Hashable) -> _Asked | None:
        self._batcher.drop(key)
        return self._asked.pop(key, None)

    def _run(self, ids: Sequence[Sequence[int]]) -> Vectors:
        longest = max(len(row) for row in ids)
        tokens = np.zeros((len(ids), longest), dtype=np.int64)
        mask = np.zeros_like(tokens)
        for number, row in enumerate(ids):
            tokens[number, : len(row)] = row
            mask[number, : len(row)] = 1
        feeds = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
        values = self._session.run([self._output], {name: feeds[name] for name in feeds if name in self._inputs})[0]
        result: Vectors = pooled(values, mask, self._reading.pooling) if self._reading.output else values
        return result

    def _width(self) -> int:
        """The length of a row; of an output that gives it no fixed size, one text tells."""
        shapes = {item.name: item.shape for item in self._session.get_outputs()}
        if not shapes.get(self._output):
            raise BadInput(f"the embedding model has no output {self._output!r}, only {sorted(shapes)}")
        width = shapes[self._output][-1]
        return width if isinstance(width, int) else int(self._run([self.tokenise(["a"])[0]]).shape[1])


def identity_of(onnx: bytes, tokenizer: bytes, max_tokens: int, reading: Reading = OURS) -> str:
    """Returns the digest of everything that decides a vector but the runtime (SPEC 7.1)."""
    parts = [hashlib.sha256(onnx).digest(), hashlib.sha256(tokenizer).digest(), str(max_tokens).encode()]
    # Vectors of bundles that are older than this parameter stay what they are.
    parts += [] if reading == OURS else [hashlib.sha256(canonical.encode(list(astuple(reading)))).digest()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def preferred_providers(precision: str, available: Sequence[str]) -> tuple[str, ...]:
    """Returns the execution providers for a graph of this precision, best first; int8 is made for CPUs."""
    on_gpu = precision != "int8" and CUDA in available
    return (CUDA, CPU) if on_gpu else (CPU,)


def _session(onnx: bytes, providers: Sequence[str]) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    slow = _SLOW_ON_CPU if list(providers) == [CPU] else []
    return onnxruntime.InferenceSession(onnx, options, providers=list(providers), disabled_optimizers=slow)
