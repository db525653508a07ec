"""Makes one GGUF of the parts of a split one, in a confined child.

The keys are those of the first part without `split.*`, the tensors those of all parts in order, each copied as it is.
llama.cpp writes `split.no`, `split.count` and `split.tensors.count` into every part (tools/gguf-split).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from bundler.confine import Confinement, run_confined
from bundler.format.errors import BadInput
from bundler.format.gguf_header import Outline, read_outline
from bundler.format.limits import GIB, MIB

MODEL_BYTES_MAX = 2048 * GIB
_CONFINEMENT = Confinement(cpu_s=3_600, wall_s=14_400, output_bytes=MODEL_BYTES_MAX)
_SPLIT = "split."


def merge(parts: Sequence[Path], target: Path) -> None:
    """Writes `target` from the parts, in their order.

    Raises:
        BadInput: A part is malformed, in the wrong place, or the parts do not make one model.
    """
    inputs = {f"{number:05d}": path for number, path in enumerate(parts)}
    request = {"parts": len(parts)}
    run_confined(
        "bundler.capture.gguf_merge:merge_streams",
        request,
        inputs=inputs,
        outputs={"gguf": target},
        confinement=_CONFINEMENT,
    )


def merge_streams(
    request: Mapping[str, Any], inputs: Mapping[str, IO[bytes]], outputs: Mapping[str, IO[bytes]]
) -> dict[str, int]:
    """The child's side of `merge`; returns how many tensors there are."""
    files = [inputs[f"{number:05d}"] for number in range(request["parts"])]
    outlines = [_outline(number, file) for number, file in enumerate(files)]
    _check(outlines)
    out = outputs["gguf"]
    alignment = outlines[0].alignment
    written = _write_header(files, outlines, out)
    _pad(out, written, alignment)
    for file, outline in zip(files, outlines, strict=True):
        for tensor in outline.header.tensors:
            _copy(file, outline.header.data_offset + tensor.offset, tensor.length, out)
            _pad(out, tensor.length, alignment)
    return {"tensors": sum(len(outline.infos) for outline in outlines)}


def _outline(number: int, file: IO[bytes]) -> Outline:
    try:
        return read_outline(file)
    except BadInput as error:
        raise BadInput(f"part {number + 1}: {error.fact}", error.hint) from error


def _check(outlines: Sequence[Outline]) -> None:
    total = sum(len(outline.infos) for outline in outlines)
    for number, outline in enumerate(outlines):
        header = outline.header
        told = (
            header.integer("split.no", -1),
            header.integer("split.count", -1),
            header.integer("split.tensors.count", -1),
        )
        if told != (number, len(outlines), total):
            raise BadInput(
                f"part {number + 1} of {len(outlines)} says that it is part {told[0] + 1} of {told[1]} with {told[2]} "
                f"tensors in all, and there are {total}"
            )
    if len({outline.version for outline in outlines}) != 1:
        raise BadInput(f"the parts are of GGUF versions {sorted({outline.version for outline in outlines})}")
    names = {tensor.name for outline in outlines for tensor in outline.header.tensors}
    if len(names) != total:
        raise BadInput("two parts have a tensor of one name")


def _write_header(files: Sequence[IO[bytes]], outlines: Sequence[Outline], out: IO[bytes]) -> int:
    """Writes magic, counts, keys and infos; returns their length in bytes."""
    first = outlines[0]
    kept = [span for key, span in first.pairs.items() if not key.startswith(_SPLIT)]
    total = sum(len(outline.infos) for outline in outlines)
    out.write(b"GGUF" + struct.pack("<IQQ", first.version, total, len(kept)))
    length = 24
    for start, end in kept:
        length += _copy(files[0], start, end - start, out)
    offset = 0
    for file, outline in zip(files, outlines, strict=True):
        for (start, end), tensor in zip(outline.infos, outline.header.tensors, strict=True):
            length += _copy(file, start, end - 8 - start, out)
            length += out.write(struct.pack("<Q", offset))
            offset += tensor.length + -tensor.length % first.alignment
    return length


def _pad(out: IO[bytes], length: int, alignment: int) -> None:
    out.write(bytes(-length % alignment))


def _copy(file: IO[bytes], start: int, length: int, out: IO[bytes]) -> int:
    file.seek(start)
    left = length
    while left:
        piece = file.read(min(left, 4 * MIB))
        if not piece:
            raise BadInput(f"a part ends at byte {start + length - left}")
        out.write(piece)
        left -= len(piece)
    return length
