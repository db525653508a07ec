"""The embedding model of a profile: converted, or its ONNX export taken as it is, and ready for use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bundler.capture import bert_to_onnx, modules, onnx, onnx_embedding, tokenizer
from bundler.capture.bert_to_onnx import BertFacts
from bundler.capture.onnx_embedding import TakenFacts
from bundler.embedding.child import ConfinedEncoder
from bundler.embedding.conversions import Conversions, name_of
from bundler.embedding.offer import MODULES, POOLING, WEIGHTS, with_way_out
from bundler.embedding.remembered import RememberingEncoder
from bundler.embedding.vector_files import VectorFiles
from bundler.format import age, service
from bundler.format.errors import BadInput
from bundler.knowledge.reading import reading_of
from bundler.plan import Embedding
from bundler.profile.model import EmbeddingEntry
from bundler.sources.source import Fetched
from bundler.terminal import Progress

EMBEDDING_FILES = ("config.json", "tokenizer.json", WEIGHTS, MODULES, POOLING)  # of a model that is converted
GRAPH, TOKENIZER = "embedding/model.onnx", "embedding/tokenizer.json"
BuildEncoder = ConfinedEncoder | RememberingEncoder


@dataclass(frozen=True)
class VectorCache:
    """The files of the build cache, the identity that they are encrypted to, and who watches texts being embedded."""

    files: VectorFiles
    identity: Callable[[], age.X25519Identity]
    watch: Callable[[int], Progress] | None = None


@dataclass(frozen=True)
class Converted:
    """An embedding model whose graph is ready: converted in the work folder, or an export as it came."""

    entry: EmbeddingEntry
    files: Mapping[str, Fetched]
    graph: Path
    facts: BertFacts | TakenFacts

    @property
    def weights(self) -> Fetched:
        """The file that the vectors come from."""
        return self.files[self.entry.onnx or WEIGHTS]

    def reason(self) -> str:
        """Says the precision and why, and why it was converted or not, in one line."""
        why = f"; {self.entry.why}" if self.entry.why else ""
        return f"{self.entry.name}: {self.facts.reason()}{why}"

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
            sha256=self.weights.sha256,
            dimensions=self.facts.dimensions,
            max_tokens=self.entry.max_tokens,
            pooling=self.facts.pooling,
            precision=self.facts.precision,
            output=self.facts.output if isinstance(self.facts, TakenFacts) else "",
            query_prefix=self.entry.query_prefix,
            passage_prefix=self.entry.passage_prefix,
        )


def embedding_files(entry: EmbeddingEntry) -> tuple[str, ...]:
    """Returns the files of the source that the profile's way to take the model needs."""
    if not entry.onnx:
        return EMBEDDING_FILES
    return ("config.json", "tokenizer.json", entry.onnx, *(() if entry.pooling else (MODULES, POOLING)))


def convert_embedding(
    entry: EmbeddingEntry,
    files: Mapping[str, Fetched],
    work: Path,
    say: Callable[[str], None],
    kept: Conversions | None = None,
) -> Converted:
    """Checks an ONNX export, or converts the model into the work folder, or takes what an earlier build converted.

    Args:
        entry: What the profile says of it, settled by `offer`.
        files: Each of `embedding_files`.
        work: The private work folder.
        say: Hears what is being done.
        kept: What earlier builds converted, or None.

    Raises:
        BadInput: A file is refused, or the profile's `max_tokens` or `precision` does not fit the model.
    """
    tokenizer.check(files["tokenizer.json"].path)
    if entry.onnx:
        say(f"trying the ONNX graph of {entry.name}")
        try:
            return Converted(entry, files, files[entry.onnx].path, _take(entry, files))
        except BadInput as error:
            raise with_way_out(error, entry) from error
    modules.check(files[MODULES].path)
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


def _take(entry: EmbeddingEntry, files: Mapping[str, Fetched]) -> TakenFacts:
    return onnx_embedding.take(
        files[entry.onnx].path,
        files["tokenizer.json"].path,
        files["config.json"].path,
        pooling=entry.pooling,
        modules=None if entry.pooling else files[MODULES].path,
        pooling_config=None if entry.pooling else files[POOLING].path,
        max_tokens=entry.max_tokens,
        precision=entry.precision,
    )


def _convert(entry: EmbeddingEntry, files: Mapping[str, Fetched], graph: Path) -> BertFacts:
    return bert_to_onnx.convert(
        files[WEIGHTS].path,
        files["config.json"].path,
        files[POOLING].path,
        graph,
        tokenizer=files["tokenizer.json"].path,
        precision=entry.precision,
    )


def make_encoder(converted: Converted, kept: VectorCache | None = None) -> BuildEncoder:
    """Returns the model ready for use in a confined child, with the vectors of earlier builds where they are kept."""
    entry = converted.entry
    encoder = ConfinedEncoder(
        converted.graph,
        converted.files["tokenizer.json"].path,
        max_tokens=entry.max_tokens,
        reading=reading_of(converted.spec()),
    )
    if kept is None:
        return encoder
    return RememberingEncoder(encoder, files=kept.files, identity=kept.identity, watch=kept.watch)
