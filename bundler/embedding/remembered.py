"""The build cache: vectors of texts that an earlier build embedded, so that a rebuild embeds only what changed.

Vectors tell much of their texts, so each file is encrypted to the ledger's identity, lies in the builder's home, and
is one customer's alone.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence

import numpy as np

from bundler.embedding.child import ConfinedEncoder
from bundler.embedding.vector_files import VectorFiles
from bundler.files import read_limited
from bundler.format import age
from bundler.format.age.errors import AgeError
from bundler.format.errors import BadBundle, FileMissing
from bundler.knowledge.reading import Vectors
from bundler.terminal import Progress

_DIGEST_BYTES = 16
_SHOWN_TEXTS = 256
_CACHE_BYTES = 4 << 30
_PLAIN_BYTES = _CACHE_BYTES - (_CACHE_BYTES >> 8)  # age adds 16 bytes for every 64 KiB, and a header


class RememberingEncoder:
    """An encoder that embeds each text once, also over builds.

    Args:
        encoder: Embeds what is not known.
        files: Where the vectors lie.
        identity: Opens and seals them; called at the first text.
        watch: Makes the progress of so many texts, or None.
    """

    def __init__(
        self,
        encoder: ConfinedEncoder,
        *,
        files: VectorFiles,
        identity: Callable[[], age.X25519Identity],
        watch: Callable[[int], Progress] | None = None,
    ) -> None:
        self._encoder = encoder
        self.dimensions, self.precision, self.identity = encoder.dimensions, encoder.precision, encoder.identity
        # The graph is in one precision, so vectors of another are not found here.
        self._files, self._path = files, files.path(f"{encoder.identity} {encoder.runtime}")
        self._opens, self._watch = identity, watch
        self._known: dict[bytes, Vectors] | None = None
        self._used: dict[bytes, Vectors] = {}
        self.fresh = 0

    def count_tokens(self, text: str) -> int:
        """Returns the tokens of a text after cutting, special tokens included."""
        return self._encoder.count_tokens(text)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Returns the same rows as the encoder's `embed`; texts that are known are not computed again."""
        return self._remembered(texts, self._encoder.embed, "")

    def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """Returns the same rows as the encoder's `embed_passages`."""
        # The same row where neither has a prefix; then a text is computed once for both.
        return self._remembered(texts, self._encoder.embed_passages, self._encoder.passages_differ)

    def close(self) -> None:
        """Ends the encoder's child."""
        self._encoder.close()

    def _remembered(self, texts: Sequence[str], embed: Callable[[Sequence[str]], Vectors], kind: str) -> Vectors:
        if self._known is None:
            self._known = self._read()
        names = [hashlib.sha256((kind + text).encode()).digest()[:_DIGEST_BYTES] for text in texts]
        missing = {name: text for name, text in zip(names, texts, strict=True) if name not in self._known}
        if missing:
            rows = self._computed(list(missing.values()), embed)
            self._known |= dict(zip(missing, rows, strict=True))
            self.fresh += len(missing)
        self._used |= {name: self._known[name] for name in names}
        if not names:
            return np.zeros((0, self.dimensions), dtype=np.float32)
        return np.stack([self._known[name] for name in names])

    def _computed(self, texts: list[str], embed: Callable[[Sequence[str]], Vectors]) -> Vectors:
        if self._watch is None:
            return embed(texts)
        found = []
        with self._watch(len(texts)) as progress:
            for start in range(0, len(texts), _SHOWN_TEXTS):
                found.append(embed(texts[start : start + _SHOWN_TEXTS]))
                progress.advance(len(found[-1]))
        return np.concatenate(found)

    def save(self) -> None:
        """Writes what this build used; texts that are gone from the content are forgotten."""
        if not self._used:
            return
        out = io.BytesIO()
        names = np.frombuffer(b"".join(self._used), dtype=np.uint8).reshape(-1, _DIGEST_BYTES)
        np.savez(out, names=names, rows=np.stack(list(self._used.values())))
        if out.tell() > _PLAIN_BYTES:
            return  # more than the next build would read: it embeds anew
        self._files.write(self._path, age.encrypt(out.getvalue(), [self._opens().recipient]))

    def _read(self) -> dict[bytes, Vectors]:
        try:
            sealed = read_limited(self._path, _CACHE_BYTES)
            plain = age.decrypt(sealed, [self._opens()], limit_bytes=_CACHE_BYTES)
        except (FileMissing, BadBundle, AgeError):  # none yet, too long, or another keyring's: it is only a cache
            return {}
        with np.load(io.BytesIO(plain), allow_pickle=False) as stored:
            return {name.tobytes(): row for name, row in zip(stored["names"], stored["rows"], strict=True)}
