"""llama.cpp's model and context through the low-level binding. Only the child imports this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from appliance.engine import need
from appliance.engine.fit import Plan
from appliance.engine.reading import ReadAt
from appliance.engine.step import Row
from appliance.engine.weights import Weights

_CACHE_TYPES = {need.F16: llama_cpp.GGML_TYPE_F16, need.Q8: llama_cpp.GGML_TYPE_Q8_0}
_NO_ROOM = 1  # llama.h: no slot of the cache for the batch


class Model(Weights):
    """A loaded model with a context of several sequences.

    Args:
        reader: The GGUF.
        plan: How it is to run, as fitted to this machine.

    Attributes:
        sequences: How many there are.
        context_tokens: Of each.
        batch_tokens: The most rows of a batch.

    Raises:
        LoadFailed: llama.cpp did not load it.
    """

    def __init__(self, reader: ReadAt, plan: Plan) -> None:
        super().__init__(reader, plan.gpu_layers)
        self.sequences, self.batch_tokens = plan.sequences, need.batch_tokens(flash=plan.flash)
        self.context = llama_cpp.llama_init_from_model(self._model, _context_params(plan))
        if not self.context:
            raise self._failure(f"no context of {plan.sequences} x {plan.context_tokens} tokens: ")
        numbers = range(self.vocabulary_size)
        self._ends = frozenset(n for n in numbers if llama_cpp.llama_vocab_is_eog(self.vocabulary, n))
        self.context_tokens = int(llama_cpp.llama_n_ctx_seq(self.context))
        self._memory = llama_cpp.llama_get_memory(self.context)
        self._batch = llama_cpp.llama_batch_init(self.batch_tokens, 0, 1)

    @property
    def rewinds(self) -> bool:
        """Whether a sequence can forget its last tokens: not where a recurrent state holds them all."""
        return not self.recurrent

    def special(self, which: str) -> str:
        """Returns the text of the `bos` or `eos` token, or ""."""
        token = getattr(llama_cpp, f"llama_vocab_{which}")(self.vocabulary)
        return self.piece(token, special=True).decode(errors="replace") if token >= 0 else ""

    def ends(self, token: int) -> bool:
        return token in self._ends

    @property
    def ends_of_answers(self) -> list[int]:
        """The tokens that end an answer, in order."""
        return sorted(self._ends)

    def trim(self, sequence: int, tokens: int) -> None:
        """Lets a sequence forget all but its first tokens."""
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, tokens if tokens else -1, -1)

    def copy(self, source: int, target: int, tokens: int) -> None:
        """Lets the empty sequence `target` begin with the first tokens of `source`."""
        # Only whole sequences go from one cache to another.
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, -1, -1)
        self.trim(target, tokens)

    def decode(self, rows: Sequence[Row]) -> bool:
        """Computes one batch; returns False where the cache has no room, and then nothing was done.

        Raises:
            RuntimeError: llama.cpp failed; the context is of no use any more.
        """
        batch = self._batch
        for place, row in enumerate(rows):
            batch.token[place], batch.pos[place] = row.token, row.position
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, row.sequence
            batch.logits[place] = row.wanted
        batch.n_tokens = len(rows)
        code = llama_cpp.llama_decode(self.context, batch)
        if code not in (0, _NO_ROOM):
            raise RuntimeError(f"llama_decode returned {code}")
        return bool(code == 0)

    def logits(self, place: int) -> NDArray[np.float32]:
        """Returns the logits after the row at `place` of the last batch, shape (vocabulary,).

        They are llama.cpp's own memory, valid until the next batch; what is written there is what `sample` draws from.
        """
        pointer = llama_cpp.llama_get_logits_ith(self.context, place)
        return np.ctypeslib.as_array(pointer, shape=(self.vocabulary_size,))

    def sample(self, sampler: Any, place: int) -> int:
        """Draws the token that follows the row at `place` of the last batch."""
        return int(llama_cpp.llama_sampler_sample(sampler, self.context, place))


def _context_params(plan: Plan) -> Any:
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = plan.context_tokens * plan.sequences
    params.n_batch = params.n_ubatch = need.batch_tokens(flash=plan.flash)
    # A cache for each sequence: with one for all, results change with what the others ask (see scheduler).
    params.n_seq_max, params.kv_unified = plan.sequences, False
    # llama.cpp's default keeps room for the logits of all tokens. Danger: more wanted rows than this abort the process.
    params.n_outputs_max = need.output_rows(plan.sequences)
    flash = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED if plan.flash else llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.flash_attn_type = flash
    params.type_k = params.type_v = _CACHE_TYPES[plan.kv_type]
    params.n_threads, params.n_threads_batch = plan.threads, plan.batch_threads
    return params
