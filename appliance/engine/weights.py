"""A GGUF that llama.cpp has loaded, and its vocabulary: what all kinds of model share. Only the child imports it."""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp

from appliance.engine.memory import lacks_memory
from appliance.engine.reading import ReadAt
from appliance.engine.stream import CookieFile

_PIECE_BYTES = 256
_ERROR_LEVEL, _MOST_LINES = 4, 20  # GGML_LOG_LEVEL_ERROR of ggml.h


class LoadFailed(Exception):
    """llama.cpp refused the model; the message holds its last words."""


class NoMemory(LoadFailed):
    """There was not the memory for the model or its context."""


class Weights:
    """A loaded model without a context.

    Args:
        reader: The GGUF.
        gpu_layers: How many layers lie on the GPU.

    Attributes:
        device: "cpu" or "gpu".

    Raises:
        LoadFailed: llama.cpp did not load it.
    """

    def __init__(self, reader: ReadAt, gpu_layers: int) -> None:
        self._log: list[str] = []
        # The library keeps the pointer: a collected callback would crash the process.
        self._callback = llama_cpp.llama_log_callback(self._on_log)
        llama_cpp.llama_log_set(self._callback, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self._model = self._load(reader, gpu_layers)
        self.vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        # Danger: without one each call of the tokenizer aborts the process.
        if llama_cpp.llama_vocab_type(self.vocabulary) == llama_cpp.LLAMA_VOCAB_TYPE_NONE:
            raise LoadFailed("the model has no vocabulary")
        self.device = "gpu" if gpu_layers and llama_cpp.llama_supports_gpu_offload() else "cpu"

    @property
    def vocabulary_size(self) -> int:
        return int(llama_cpp.llama_vocab_n_tokens(self.vocabulary))

    @property
    def cuts_words(self) -> bool:
        """Whether each word becomes a token at least, and an unknown one of any length just one (WordPiece)."""
        return bool(llama_cpp.llama_vocab_type(self.vocabulary) == llama_cpp.LLAMA_VOCAB_TYPE_WPM)

    @property
    def recurrent(self) -> bool:
        """Whether layers keep a state that holds all tokens of a sequence."""
        return bool(llama_cpp.llama_model_is_recurrent(self._model) or llama_cpp.llama_model_is_hybrid(self._model))

    def template(self, name: bytes | None = None) -> str:
        """Returns the model's chat template (or that of the name), or "" where it has none."""
        text = llama_cpp.llama_model_chat_template(self._model, name)
        return text.decode() if text else ""

    def tokenize(self, text: str, *, special: bool, begins: bool = False) -> list[int]:
        """Returns the tokens of a text.

        Args:
            text: What to cut into tokens.
            special: The text of control tokens becomes those tokens.
            begins: Put the token in front that begins a text, where the model wants one.

        Raises:
            ValueError: llama.cpp cannot cut it.
        """
        data = text.encode()
        room = len(data) + 8
        tokens = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self.vocabulary, data, len(data), tokens, room, begins, special)
        if count < 0:
            raise ValueError("the text does not fit its own token buffer")
        return list(tokens[:count])

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """Returns the bytes of a token: possibly a part of a character."""
        room = _PIECE_BYTES
        while True:
            buffer = ctypes.create_string_buffer(room)
            count = llama_cpp.llama_token_to_piece(self.vocabulary, token, buffer, room, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            room = -count

    def control_texts(self) -> list[str]:
        """Returns the texts that stand for control tokens where a prompt is tokenized with `special`."""
        control = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL
        numbers = range(self.vocabulary_size)
        found = [number for number in numbers if llama_cpp.llama_vocab_get_attr(self.vocabulary, number) & control]
        texts = (self.piece(number, special=True).decode(errors="replace") for number in found)
        return sorted({text for text in texts if len(text) > 1})

    def _load(self, reader: ReadAt, gpu_layers: int) -> Any:
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = gpu_layers
        params.load_mode = llama_cpp.LLAMA_LOAD_MODE_NONE  # a cookie FILE cannot be mapped
        file = CookieFile(reader)
        try:
            model = llama_cpp.llama_model_load_from_file_ptr(file.pointer, params)
        finally:
            file.close()
        if not model:
            raise self._failure("")
        return model

    def _on_log(self, level: int, text: bytes, _: Any) -> None:
        if level == _ERROR_LEVEL and len(self._log) < _MOST_LINES:  # above it are the dots of the progress
            self._log.append(text.decode(errors="replace").strip())

    def _failure(self, what: str) -> LoadFailed:
        kind = NoMemory if lacks_memory(self._log) else LoadFailed
        return kind(what + self._words())

    def _words(self) -> str:
        return "; ".join(self._log[-3:])[:500] or "llama.cpp gave no reason"
