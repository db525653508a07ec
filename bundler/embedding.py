"""The embedding model of a profile: converted in the precision that the profile asks for, and ready for use."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bundler.capture import bert_to_onnx, onnx, tokenizer
from bundler.conversions import Conversions, name_of
from bundler.format import age, service
from bundler.format.errors import BadInput
from bundler.knowledge.encoder import Encoder
from bundler.plan import Embedding
from bundler.profile.model import EmbeddingEntry
from bundler.sources.source import Fetched
from bundler.terminal import Progress
from bundler.vector_cache import RememberingEncoder

EMBEDDING_FILES = ("config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json")
GRAPH, TOKENIZER = "embedding/model.onnx", "embedding/tokenizer.json"


@dataclass(frozen=True)
class VectorCache:
    """The folder of the build cache, the identity that it is encrypted to, and who watches texts being embedded."""

    folder: Path
    identity: Callable[[], age.X25519Identity]
    watch: Callable[[int], Progress] | None = None


@dataclass(frozen=True)
class Converted:
    """An embedding model whose graph lies in the work folder."""

    entry: EmbeddingEntry
    files: Mapping[str, Fetched]
    graph: Path
    facts: bert_to_onnx.BertFacts

    def reason(self) -> str:
        """Says the precision and why, in one line."""
        return f"{self.entry.name}: {self.facts.reason()}"

    def planned(self) -> Embedding:
        """Returns what the plan needs of it."""
        tokens = self.files["tokenizer.json"].length_bytes
        return Embedding(self.reason(), self.graph.stat().st_size + tokens)

    def spec(self) -> service.EmbeddingSpec:
        """Returns what the box needs of it."""
        return service.EmbeddingSpec(
            name=self.entry.name,
            asset=GRAPH,
            tokenizer=TOKENIZER,
            sha256=self.files["model.safetensors"].sha256,
            dimensions=self.facts.dimensions,
            max_tokens=self.entry.max_tokens,
            pooling=self.facts.pooling,
            precision=self.facts.precision,
        )


def convert_embedding(
    entry: EmbeddingEntry,
    files: Mapping[str, Fetched],
    work: Path,
    say: Callable[[str], None],
    kept: Conversions | None = None,
) -> Converted:
    """Converts the model into the work folder, or takes the graph that an earlier build made of the same files.

    Args:
        entry: What the profile says of it.
        files: Each of EMBEDDING_FILES.
        work: The private work folder.
        say: Hears what is being done.
        kept: What earlier builds converted, or None.

    Raises:
        BadInput: A file is refused, or the profile's `max_tokens` or `precision` does not fit the model.
    """
    tokenizer.check(files["tokenizer.json"].path)
    graph = work / "embedding.onnx"
    name = name_of({name: files[name].sha256 for name in EMBEDDING_FILES}, entry.precision)
    facts = kept.take(name, graph) if kept is not None else None
    if facts is None:
        say(f"converting {entry.name} to ONNX")
        facts = _convert(entry, files, graph)
        if kept is not None:
            kept.keep(name, graph, facts)
    onnx.check(graph)  # the child that wrote it had parsed foreign files
    if entry.max_tokens > facts.max_tokens:
        raise BadInput(f"{entry.name}: max_tokens is {entry.max_tokens}, the model takes {facts.max_tokens}")
    return Converted(entry, files, graph, facts)


def _convert(entry: EmbeddingEntry, files: Mapping[str, Fetched], graph: Path) -> bert_to_onnx.BertFacts:
    return bert_to_onnx.convert(
        files["model.safetensors"].path,
        files["config.json"].path,
        files["1_Pooling/config.json"].path,
        graph,
        tokenizer=files["tokenizer.json"].path,
        precision=entry.precision,
    )


def make_encoder(converted: Converted, kept: VectorCache | None = None) -> Encoder:
    """Returns the model ready for use, with the vectors of earlier builds where they are kept."""
    graph, tokens = converted.graph.read_bytes(), converted.files["tokenizer.json"].path.read_bytes()
    cores = len(os.sched_getaffinity(0))
    if kept is None:
        return Encoder(graph, tokens, max_tokens=converted.entry.max_tokens, threads=cores)
    return RememberingEncoder(
        graph,
        tokens,
        max_tokens=converted.entry.max_tokens,
        threads=cores,
        folder=kept.folder,
        identity=kept.identity,
        watch=kept.watch,
    )
