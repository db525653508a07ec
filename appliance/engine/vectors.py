"""Vectors as OpenAI's wire has them. Pure."""

from __future__ import annotations

from base64 import b64encode

import msgspec
import numpy as np
from numpy.typing import NDArray


def as_document(rows: NDArray[np.float32], model: str, tokens: int, *, base64: bool) -> bytearray:
    """Returns the answer to `/v1/embeddings`: vectors as little-endian float32 in base64, or as numbers.

    Row by row: as numbers of Python they would take 32 bytes each at once, beside the text.

    Args:
        rows: Vectors, shape (texts, dimensions).
        model: The name of the model that made them.
        tokens: How many it read.
        base64: How they are written.
    """
    encoder, data = msgspec.json.Encoder(), bytearray(b'{"object":"list","data":[')
    for number, row in enumerate(rows.astype("<f4", copy=False)):
        vector = b64encode(row.tobytes()).decode() if base64 else row.tolist()
        data += b"," if number else b""
        encoder.encode_into({"object": "embedding", "index": number, "embedding": vector}, data, -1)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    data += b'],"model":' + encoder.encode(model) + b',"usage":' + encoder.encode(usage) + b"}"
    return data


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the rows with length 1; a row of zeros stays one."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, np.where(lengths > 0, lengths, 1), dtype=np.float32)
