"""llama.cpp's context for whole texts: each becomes a vector, or a score. Only the child imports this."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from appliance.engine.cutting import Cutter
from appliance.engine.fit import Plan
from appliance.engine.reading import ReadAt
from appliance.engine.weights import LoadFailed, Weights
from bundler.format.service import RERANK

BATCH_TEXTS = 64
_VALUE_BYTES = 256
_POOLINGS = tuple(str(getattr(llama_cpp, f"LLAMA_POOLING_TYPE_{name}")) for name in ("MEAN", "CLS", "LAST"))
# Their graphs end in a softmax over "yes" and "no" (llama-graph.cpp `build_pooling`).
_YES_OR_NO = ("qwen3", "qwen3vl")


class PooledModel(Weights):
    """A loaded model that pools: texts in, a row of numbers for each out.

    Args:
        reader: The GGUF.
        plan: How it is to run, as fitted to this machine.
        serves: EMBEDDING or RERANK.

    Attributes:
        longest_tokens: The longest text.
        batch_tokens: The largest batch; a text is never cut over two, of which the first would be lost.
        most_texts: The most texts of a batch.
        width: Numbers in a row.

    Raises:
        LoadFailed: llama.cpp did not load it, or it is no model of this kind.
    """

    def __init__(self, reader: ReadAt, plan: Plan, serves: str) -> None:
        super().__init__(reader, plan.gpu_layers)
        if llama_cpp.llama_model_has_encoder(self._model):
            raise LoadFailed("a model with an encoder and a decoder is not served")
        self._ranks = serves == RERANK
        # A recurrent state is kept for each text of a batch, and computes one text after the other anyway.
        self.most_texts = 1 if self.recurrent else BATCH_TEXTS
        self.batch_tokens = plan.context_tokens
        # Danger: positions beyond the table of a model that learned them abort the process.
        self.longest_tokens = min(plan.context_tokens, int(llama_cpp.llama_model_n_ctx_train(self._model)))
        params = _context_params(plan, self._pooling(), self.most_texts)
        self.context = llama_cpp.llama_init_from_model(self._model, params)
        if not self.context:
            raise self._failure(f"no context of {plan.context_tokens} tokens: ")
        self.width = self._width()
        self._cutter = Cutter(self, self.longest_tokens)
        self._memory = llama_cpp.llama_get_memory(self.context)
        self._batch = llama_cpp.llama_batch_init(self.batch_tokens, 0, 1)

    def pool(self, texts: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Computes one batch.

        Args:
            texts: At most `most_texts`, of at most `batch_tokens` tokens together, none empty.

        Returns:
            What the model makes of each, as it comes out; shape (texts, width).

        Raises:
            RuntimeError: llama.cpp failed; the context is of no use any more.
        """
        if self._memory:  # models that read a text at once have none
            llama_cpp.llama_memory_clear(self._memory, False)  # noqa: FBT003 - llama.cpp's signature
        self._fill(texts)
        code = llama_cpp.llama_decode(self.context, self._batch)
        if code:
            raise RuntimeError(f"llama_decode returned {code}")
        return np.stack([self._row(number) for number in range(len(texts))])

    def score(self, row: NDArray[np.float32]) -> float:
        """Returns how well a document fits, from 0 to 1, of the row of a model that ranks."""
        value = float(row[0])
        if self._architecture in _YES_OR_NO:
            return value
        return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))

    def cut(self, text: str, what: str) -> list[int]:
        """Returns the tokens of a text for a vector; raises Refused, naming `what`, where it cannot fit."""
        return self._cutter.cut(text, what, special=False, begins=True)

    def pairing(self, query: str) -> Callable[[str, str], list[int]]:
        """Returns what makes the tokens of a query and a document as a model that ranks wants them.

        They stand in the model's own template of the name "rerank", or between the tokens that separate texts
        (llama.cpp, server-common.cpp `format_prompt_rerank`). Texts of control tokens in a template's arguments must
        have been made inert.

        Args:
            query: Is cut once for all documents where there is no template.

        Returns:
            A function of a document and what the pair is called in a refusal.

        Raises:
            Refused: The query cannot fit.
        """
        if template := self.template(b"rerank"):
            parts = [part.replace("{query}", query) for part in template.split("{document}")]
            return lambda document, what: self._cutter.cut(document.join(parts), what, special=True)
        last, between = self._separators()
        begins = llama_cpp.llama_vocab_get_add_bos(self.vocabulary)
        begin = [llama_cpp.llama_vocab_bos(self.vocabulary)] if begins else []
        asked = [*begin, *self._cutter.cut(query, "the query", special=False), *between]
        return lambda document, what: [*asked, *self._cutter.cut(document, what, special=False), *last]

    def _separators(self) -> tuple[list[int], list[int]]:
        """What ends the last text, and what stands between two."""
        end, separator = llama_cpp.llama_vocab_eos(self.vocabulary), llama_cpp.llama_vocab_sep(self.vocabulary)
        ends = [end if end >= 0 else separator] if llama_cpp.llama_vocab_get_add_eos(self.vocabulary) else []
        separates = [separator] if llama_cpp.llama_vocab_get_add_sep(self.vocabulary) else []
        return ends or separates, [*ends, *separates]

    def _fill(self, texts: Sequence[Sequence[int]]) -> None:
        batch, place = self._batch, 0
        for number, text in enumerate(texts):
            for position, token in enumerate(text):
                batch.token[place], batch.pos[place] = token, position
                batch.n_seq_id[place], batch.seq_id[place][0] = 1, number
                batch.logits[place] = True
                place += 1
        batch.n_tokens = place

    def _row(self, number: int) -> NDArray[np.float32]:
        pointer = llama_cpp.llama_get_embeddings_seq(self.context, number)
        if not pointer:
            raise RuntimeError(f"llama.cpp gave no vector for text {number} of a batch")
        return np.ctypeslib.as_array(pointer, shape=(self.width,)).copy()

    def _width(self) -> int:
        if not self._ranks:
            return int(llama_cpp.llama_model_n_embd_out(self._model))
        outputs = int(llama_cpp.llama_model_n_cls_out(self._model))
        if outputs != 1 and self._architecture not in _YES_OR_NO:
            raise LoadFailed(f"the head of a model that ranks has one output, this one has {outputs}")
        return outputs

    def _pooling(self) -> int:
        """The header's; without a word of it the last token stands for a text that is read forwards, else the mean."""
        stated = self._stated("pooling_type")
        if self._ranks:
            return int(llama_cpp.LLAMA_POOLING_TYPE_RANK)
        if stated in _POOLINGS:
            return int(stated)
        if stated not in ("", str(llama_cpp.LLAMA_POOLING_TYPE_NONE)):
            # Danger: a number that llama.cpp does not know aborts the process.
            raise LoadFailed(f"the model's pooling_type is {stated[:20]!r}: it ranks, or its vectors are not known")
        both_ways = self._stated("attention.causal") == "false"
        return int(llama_cpp.LLAMA_POOLING_TYPE_MEAN if both_ways else llama_cpp.LLAMA_POOLING_TYPE_LAST)

    @cached_property
    def _architecture(self) -> str:
        return self._text_of("general.architecture")

    def _stated(self, key: str) -> str:
        return self._text_of(f"{self._architecture}.{key}")

    def _text_of(self, key: str) -> str:
        """A value of the header as text, "" where it is absent."""
        buffer = ctypes.create_string_buffer(_VALUE_BYTES)
        size = llama_cpp.llama_model_meta_val_str(self._model, key.encode(), buffer, _VALUE_BYTES)
        return buffer.value.decode(errors="replace") if size >= 0 else ""


def _context_params(plan: Plan, pooling: int, texts: int) -> Any:
    params = llama_cpp.llama_context_default_params()
    # Danger: a text that reads both ways and is longer than a batch of the hardware (n_ubatch) aborts the process.
    params.n_ctx = params.n_batch = params.n_ubatch = plan.context_tokens
    # One cache for all: with one for each, texts of different lengths are cut up, and their means are of their ends.
    params.n_seq_max, params.kv_unified = texts, True
    # Danger: every row is an output, and more of them than this abort the process.
    params.n_outputs_max = plan.context_tokens
    params.embeddings, params.pooling_type = True, pooling
    flash = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED if plan.flash else llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.flash_attn_type = flash
    params.n_threads, params.n_threads_batch = plan.threads, plan.batch_threads
    return params
