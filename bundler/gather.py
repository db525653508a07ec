"""Puts together what goes into a bundle: what a profile names is captured and compiled into the work folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bundler.capture import gguf
from bundler.capture.images import capture_attached, capture_image, image_spec
from bundler.capture.row_cuts import row_cuts
from bundler.compile_service import SELFTEST, compile_service
from bundler.embedding.model import GRAPH, TOKENIZER, BuildEncoder, Converted, make_encoder
from bundler.embedding.remembered import RememberingEncoder
from bundler.fit import compile as fit
from bundler.format import service
from bundler.format.chunking import merged_cuts
from bundler.format.image import ImageSpec
from bundler.format.limits import CHUNK_BYTES, CHUNK_BYTES_SMALL, MIB
from bundler.ingest import faq, readers, routes
from bundler.knowledge.reading import Embeds
from bundler.local import local_path
from bundler.plan import Found
from bundler.profile.model import ContentEntry, EmbeddingEntry, ModelEntry
from bundler.profile_sources import Sources
from bundler.repository.survey import Captured
from bundler.sources.source import Fetched
from bundler.stores import snapshot_store, specs


@dataclass(frozen=True)
class Gathered:
    """Everything that goes into a bundle, and the service that the box will offer from it."""

    captured: tuple[Captured, ...]
    service: service.Service
    encoder: BuildEncoder | None


def gather(sources: Sources, found: Mapping[str, tuple[Found, Fetched]], converted: Converted | None) -> Gathered:
    """Checks and compiles everything into the work folder.

    Args:
        sources: What the profile names.
        found: Its model files, as `Sources.found` returned them.
        converted: Its embedding model, as `Sources.converted` returned it.

    Raises:
        BadInput: A model, document, FAQ or router is refused; the message names it.
    """
    profile, cases = sources.profile, _selftest(sources)
    captured: list[Captured | None] = [_model(entry, found[entry.source][1]) for entry in profile.models]
    captured += [_licence(entry, found[entry.source][1]) for entry in profile.models]
    captured += [file for entry in profile.models for file in _attached(entry, found[entry.source][1], sources.work)]
    images = _images(sources, found)
    captured += [file for _, files in images for file in files]
    spec, encoder = None, None
    if converted is not None:
        spec, encoder = converted.spec(), make_encoder(converted, sources.vectors)
        captured += _attached(converted.entry, converted.weights, sources.work)
        captured += [*_embedding(converted), *_knowledge(sources, encoder)]
        for opened in sources.stores().values():
            captured += snapshot_store(opened, encoder, sources.work, sources.say)
        if isinstance(encoder, RememberingEncoder):
            sources.say(f"{encoder.fresh} texts were embedded, the rest was known")
            encoder.save()
    captured.append(cases)
    taken = tuple(spec for spec, _ in images)
    compiled = compile_service(profile, spec, taken, specs(profile, sources.opened))
    return Gathered(tuple(item for item in captured if item is not None), compiled, encoder)


def _model(entry: ModelEntry, fetched: Fetched) -> Captured:
    cuts = merged_cuts(gguf.cut_points(gguf.inspect(fetched.path)), MIB)
    path = f"models/{entry.name}.gguf"
    return Captured(path, fetched.path, "gguf", entry.licence, fetched.pinned, cuts, CHUNK_BYTES, fetched.sha256)


def _images(sources: Sources, found: Mapping[str, tuple[Found, Fetched]]) -> list[tuple[ImageSpec, list[Captured]]]:
    """Returns each image of the profile with the files of its layout."""
    result = []
    for entry in sources.profile.images:
        fetched = found[entry.source][1]
        if fetched.layout is not None:
            files = capture_image(entry.name, fetched.layout, fetched.pinned, entry.licence, sources.work)
            result.append((image_spec(entry.name, fetched.layout), files))
    return result


def _attached(entry: ModelEntry | EmbeddingEntry, fetched: Fetched, work: Path) -> list[Captured]:
    """What a registry holds about a model beside it: signatures, attestations."""
    return [] if fetched.layout is None else capture_attached(entry.name, fetched.layout, fetched.pinned, work)


def _licence(entry: ModelEntry | EmbeddingEntry, fetched: Fetched) -> Captured | None:
    """The text of a model's licence, which many licences ask to travel with the weights."""
    if fetched.licence_text is None:
        return None
    return _small(f"licences/{entry.name}.txt", fetched.licence_text, "licence", entry.licence, fetched.source)


def _embedding(converted: Converted) -> list[Captured | None]:
    licence, files = converted.entry.licence, converted.files
    weights, tokens = converted.weights, files["tokenizer.json"]
    graph = _small(GRAPH, converted.graph, "onnx", licence, weights.pinned)
    return [
        replace(graph, chunk_bytes=CHUNK_BYTES),
        _small(TOKENIZER, tokens.path, "tokenizer", licence, tokens.pinned),
        _licence(converted.entry, weights),
    ]


def _knowledge(sources: Sources, encoder: Embeds) -> list[Captured]:
    profile, assets = sources.profile, []
    for entry in profile.documents:
        sources.say(f"reading and embedding the documents of {entry.name}")
        texts = readers.read_folder(local_path(profile, entry.source))
        assets += _written(sources, entry, fit.compile_documents(texts, encoder, entry.name))
    for entry in profile.faqs:
        sources.say(f"fitting the FAQ {entry.name}")
        entries = faq.read_faq(local_path(profile, entry.source))
        assets += _written(sources, entry, fit.compile_faq(entries, encoder, entry.name))
    for entry in profile.routers:
        sources.say(f"fitting the router {entry.name}")
        examples = routes.read_routes(local_path(profile, entry.source))
        assets += _written(sources, entry, fit.compile_router(examples, encoder, entry.name))
    return assets


def _written(sources: Sources, entry: ContentEntry, assets: Mapping[str, bytes]) -> list[Captured]:
    captured = []
    for path, data in sorted(assets.items()):
        file = sources.work / "compiled" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        captured.append(_small(path, file, kind_of(path), "", entry.source))
    return captured


def kind_of(path: str) -> str:
    """Returns the kind of a compiled asset by its name."""
    kinds = {"documents": "chunks", "faq": "faq", "router": "router"}
    if path.endswith(".npy"):
        return "vectors"
    return "texts" if path.endswith("texts.jsonl") else kinds[path.split("/")[0]]


def _selftest(sources: Sources) -> Captured | None:
    entry = sources.profile.selftest
    if entry is None:
        return None
    rows, file = sources.cases(), sources.work / SELFTEST
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return _small(SELFTEST, file, "selftest", "", " ".join(entry.cases))


def _small(path: str, file: Path, kind: str, licence: str, source: str) -> Captured:
    return Captured(path, file, kind, licence, source, row_cuts(file), CHUNK_BYTES_SMALL)
