"""The embedding model: an ONNX graph that pools and normalises, with its tokenizer, both from bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bundler.format.errors import BadInput

Vectors = NDArray[np.float32]
_BATCH = 32
_ERRORS_ONLY = 3


class Encoder:
    """Turns texts into vectors. Safe to share between threads.

    Args:
        onnx: The graph; inputs `input_ids`, `attention_mask`, `token_type_ids`, output `embedding`.
        tokenizer: `tokenizer.json`.
        max_tokens: Longer texts are cut.
        providers: Execution providers in order of preference; the first that works is `provider`.
        threads: 0 lets the runtime choose.

    Raises:
        BadInput: The tokenizer's ids do not fit, or the bytes are no model.
    """

    def __init__(
        self,
        onnx: bytes,
        tokenizer: bytes,
        *,
        max_tokens: int,
        providers: Sequence[str] = ("CPUExecutionProvider",),
        threads: int = 0,
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _ERRORS_ONLY
        try:
            self._session = onnxruntime.InferenceSession(onnx, options, providers=list(providers))
            self._tokenizer = Tokenizer.from_str(tokenizer.decode())
        except Exception as error:  # both libraries raise bare Exception subclasses of their own
            raise BadInput(f"the embedding model does not load: {error}") from error
        self._tokenizer.enable_truncation(max_tokens)
        self._tokenizer.no_padding()
        self.provider: str = self._session.get_providers()[0]
        self.dimensions: int = int(self._session.get_outputs()[0].shape[1])

    def count_tokens(self, text: str) -> int:
        """Returns the tokens of a text after cutting, special tokens included."""
        return len(self._tokenizer.encode(text).ids)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Returns one L2-normalised row a text, shape (len(texts), dimensions)."""
        encodings = self._tokenizer.encode_batch(list(texts))
        # Equal lengths share a batch: padding is computed and thrown away.
        order = sorted(range(len(texts)), key=lambda number: len(encodings[number].ids))
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            vectors[rows] = self._run([encodings[row].ids for row in rows])
        return vectors

    def _run(self, ids: Sequence[Sequence[int]]) -> Vectors:
        longest = max(len(row) for row in ids)
        tokens = np.zeros((len(ids), longest), dtype=np.int64)
        mask = np.zeros_like(tokens)
        for number, row in enumerate(ids):
            tokens[number, : len(row)] = row
            mask[number, : len(row)] = 1
        feeds = {"input_ids": tokens, "attention_mask": mask, "token_type_ids": np.zeros_like(tokens)}
        result: Vectors = self._session.run(["embedding"], feeds)[0]
        return result
