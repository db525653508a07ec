"""The build cache: vectors of texts that an earlier build embedded, so that a rebuild embeds only what changed.

Vectors tell much of their texts, so the cache is encrypted to the ledger's identity and lies in the builder's home.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from bundler.files import read_limited, write_atomic
from bundler.format import age
from bundler.format.age.errors import AgeError
from bundler.format.errors import FileMissing
from bundler.knowledge.encoder import Encoder, Vectors
from bundler.terminal import Progress

_DIGEST_BYTES = 16
_SHOWN_TEXTS = 256
_CACHE_BYTES = 4 << 30


class RememberingEncoder(Encoder):
    """An encoder that embeds each text once, also over builds.

    Args:
        onnx: The graph.
        tokenizer: `tokenizer.json`.
        max_tokens: Longer texts are cut.
        folder: Where the caches lie, one file a model.
        identity: Opens and seals them; called at the first text.
        watch: Makes the progress of so many texts, or None.
        threads: How many batches run at once.
    """

    def __init__(
        self,
        onnx: bytes,
        tokenizer: bytes,
        *,
        max_tokens: int,
        folder: Path,
        identity: Callable[[], age.X25519Identity],
        watch: Callable[[int], Progress] | None = None,
        threads: int = 1,
    ) -> None:
        super().__init__(onnx, tokenizer, max_tokens=max_tokens, threads=threads)
        # The graph is in one precision, so vectors of another are not found here.
        model = hashlib.sha256(f"{self.identity} {onnxruntime.__version__}".encode()).hexdigest()
        self._path = folder / f"{model}.age"
        self._identity, self._watch = identity, watch
        self._known: dict[bytes, Vectors] | None = None
        self._used: dict[bytes, Vectors] = {}
        self.fresh = 0

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Returns the same rows as `Encoder.embed`; texts that are known are not computed again."""
        if self._known is None:
            self._known = self._read()
        names = [hashlib.sha256(text.encode()).digest()[:_DIGEST_BYTES] for text in texts]
        missing = {name: text for name, text in zip(names, texts, strict=True) if name not in self._known}
        if missing:
            rows = self._computed(list(missing.values()))
            self._known |= dict(zip(missing, rows, strict=True))
            self.fresh += len(missing)
        self._used |= {name: self._known[name] for name in names}
        if not names:
            return np.zeros((0, self.dimensions), dtype=np.float32)
        return np.stack([self._known[name] for name in names])

    def _computed(self, texts: list[str]) -> Vectors:
        if self._watch is None:
            return super().embed(texts)
        found = []
        with self._watch(len(texts)) as progress:
            for start in range(0, len(texts), _SHOWN_TEXTS):
                found.append(super().embed(texts[start : start + _SHOWN_TEXTS]))
                progress.advance(len(found[-1]))
        return np.concatenate(found)

    def save(self) -> None:
        """Writes what this build used; texts that are gone from the content are forgotten."""
        if not self._used:
            return
        out = io.BytesIO()
        names = np.frombuffer(b"".join(self._used), dtype=np.uint8).reshape(-1, _DIGEST_BYTES)
        np.savez(out, names=names, rows=np.stack(list(self._used.values())))
        write_atomic(self._path, age.encrypt(out.getvalue(), [self._identity().recipient]), mode=0o600)

    def _read(self) -> dict[bytes, Vectors]:
        try:
            sealed = read_limited(self._path, _CACHE_BYTES)
            plain = age.decrypt(sealed, [self._identity()], limit_bytes=_CACHE_BYTES)
        except (FileMissing, AgeError):  # none yet, or another keyring's: it is only a cache
            return {}
        with np.load(io.BytesIO(plain), allow_pickle=False) as stored:
            return {name.tobytes(): row for name, row in zip(stored["names"], stored["rows"], strict=True)}
