"""The `[embedding]` of a profile."""

from __future__ import annotations

from bundler.format import paths
from bundler.format.errors import BadBundle
from bundler.profile.model import PRECISIONS, EmbeddingEntry
from bundler.profile.signer import read_signer
from bundler.profile.source import read_source
from bundler.profile.table import Table

POOLINGS = ("mean", "cls", "max")
PREFIX_CHARS = 500


def read_embedding(table: Table) -> EmbeddingEntry:
    """Reads the table; what is wrong with it goes to the table's issues."""
    onnx = table.text("onnx", "")
    if onnx and not _is_graph(onnx):
        table.issue(f"onnx is {onnx!r}, expected the path of an .onnx file inside the source")
    source = read_source(table)
    is_open = source.startswith("hub:") and not onnx and not table.has("precision")
    if table.has("pooling") and not onnx and not is_open:
        table.issue("pooling is for a graph that is taken as it is (onnx); a converted model says it itself")
    entry = EmbeddingEntry(
        name=table.name(),
        source=source,
        licence=table.text("licence"),
        licence_file=table.text("licence_file", ""),
        max_tokens=table.integer("max_tokens", 256, 16, 8192),
        precision=table.choice("precision", PRECISIONS, "auto"),
        onnx=onnx,
        pooling=table.choice("pooling", POOLINGS) if table.has("pooling") else "",
        query_prefix=_prefix(table, "query_prefix"),
        passage_prefix=_prefix(table, "passage_prefix"),
        signer=read_signer(table),
        is_open=is_open,
    )
    table.close()
    return entry


def _is_graph(path: str) -> bool:
    try:
        return paths.check(path).endswith(".onnx")
    except BadBundle:
        return False


def _prefix(table: Table, key: str) -> str:
    text = table.text(key, "")
    if len(text) > PREFIX_CHARS:
        table.issue(f"{key} is longer than {PREFIX_CHARS} characters")
    return text
