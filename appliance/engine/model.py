"""llama.cpp's model and context through the low-level binding; one sequence so far. Only the child imports this."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import llama_cpp

from appliance.engine.reading import ReadAt
from appliance.engine.stream import CookieFile

_PIECE_BYTES = 256
_BATCH_TOKENS = 512
_ERROR_LEVEL = 4


class LoadFailed(Exception):
    """llama.cpp refused the model; the message holds its last words."""


class Model:
    """A loaded model with a context for one sequence.

    Args:
        reader: The GGUF.
        context_tokens: Size of the context.
        threads: Threads of computation.

    Raises:
        LoadFailed: llama.cpp did not load it.
    """

    def __init__(self, reader: ReadAt, context_tokens: int, threads: int) -> None:
        self._log: list[str] = []
        # The library keeps the pointer: a collected callback would crash the process.
        self._callback = llama_cpp.llama_log_callback(self._on_log)
        llama_cpp.llama_log_set(self._callback, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self._model = self._load(reader)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = context_tokens, _BATCH_TOKENS, _BATCH_TOKENS
        params.n_threads = params.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self._model, params)
        if not self.context:
            raise LoadFailed(f"no context of {context_tokens} tokens: {self._words()}")
        self.vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self.context_tokens = int(llama_cpp.llama_n_ctx(self.context))
        self.device = "gpu" if llama_cpp.llama_supports_gpu_offload() else "cpu"

    @property
    def vocabulary_size(self) -> int:
        return int(llama_cpp.llama_vocab_n_tokens(self.vocabulary))

    def template(self) -> str:
        """Returns the model's own chat template, or "" where it has none."""
        text = llama_cpp.llama_model_chat_template(self._model, None)
        return text.decode() if text else ""

    def special(self, which: str) -> str:
        """Returns the text of the `bos` or `eos` token, or ""."""
        token = getattr(llama_cpp, f"llama_vocab_{which}")(self.vocabulary)
        return self.piece(token, special=True).decode(errors="replace") if token >= 0 else ""

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Returns the tokens of a text; with `special`, the text of control tokens becomes those tokens."""
        data = text.encode()
        room = len(data) + 8
        tokens = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self.vocabulary, data, len(data), tokens, room, False, special)  # noqa: FBT003
        if count < 0:
            raise ValueError("the text does not fit its own token buffer")
        return list(tokens[:count])

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """Returns the bytes of a token: possibly a part of a character."""
        buffer = ctypes.create_string_buffer(_PIECE_BYTES)
        count = llama_cpp.llama_token_to_piece(self.vocabulary, token, buffer, _PIECE_BYTES, 0, special)
        return buffer.raw[: max(0, count)]

    def ends(self, token: int) -> bool:
        return bool(llama_cpp.llama_vocab_is_eog(self.vocabulary, token))

    def clear(self) -> None:
        """Forgets the sequence."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)  # noqa: FBT003

    def decode(self, tokens: Sequence[int]) -> None:
        """Feeds tokens to the sequence; raises RuntimeError with llama.cpp's code."""
        for start in range(0, len(tokens), _BATCH_TOKENS):
            part = tokens[start : start + _BATCH_TOKENS]
            array = (llama_cpp.llama_token * len(part))(*part)
            code = llama_cpp.llama_decode(self.context, llama_cpp.llama_batch_get_one(array, len(part)))
            if code:
                raise RuntimeError(f"llama_decode returned {code}")

    def _load(self, reader: ReadAt) -> Any:
        params = llama_cpp.llama_model_default_params()
        params.load_mode = llama_cpp.LLAMA_LOAD_MODE_NONE  # a cookie FILE cannot be mapped
        file = CookieFile(reader)
        try:
            model = llama_cpp.llama_model_load_from_file_ptr(file.pointer, params)
        finally:
            file.close()
        if not model:
            raise LoadFailed(self._words())
        return model

    def _on_log(self, level: int, text: bytes, _: Any) -> None:
        if level >= _ERROR_LEVEL and len(self._log) < 20:
            self._log.append(text.decode(errors="replace").strip())

    def _words(self) -> str:
        return "; ".join(self._log[-3:])[:500] or "llama.cpp gave no reason"
