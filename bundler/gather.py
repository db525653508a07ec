"""Gathers what a profile names: sources are fetched, checked and captured into the work folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bundler.capture import gguf
from bundler.capture.images import capture_image, image_spec
from bundler.capture.row_cuts import row_cuts
from bundler.compile_service import SELFTEST, compile_service
from bundler.embedding.conversions import Conversions
from bundler.embedding.model import (
    GRAPH,
    TOKENIZER,
    BuildEncoder,
    Converted,
    VectorCache,
    convert_embedding,
    embedding_files,
    make_encoder,
)
from bundler.embedding.offer import settled
from bundler.embedding.remembered import RememberingEncoder
from bundler.fit import compile as fit
from bundler.format import service
from bundler.format.chunking import merged_cuts
from bundler.format.errors import BadInput, SourceFailed
from bundler.format.image import ImageSpec
from bundler.format.limits import CHUNK_BYTES, CHUNK_BYTES_SMALL, MIB
from bundler.ingest import faq, readers, routes
from bundler.ingest.lines import read_records
from bundler.knowledge import selftest
from bundler.knowledge.reading import Embeds
from bundler.local import local_file, local_path, sized
from bundler.lock import Lock, Pin, PinnedPart, no_lock
from bundler.models import templates
from bundler.models.signatures import Signatures
from bundler.models.statements import stated
from bundler.plan import Found, pins
from bundler.profile.model import ContentEntry, EmbeddingEntry, ModelEntry, Profile
from bundler.repository.survey import Captured
from bundler.sources.fetch import fetch, fetch_image
from bundler.sources.file import hashed
from bundler.sources.place import Place
from bundler.sources.source import Fetched
from bundler.stores import Opened, open_store, snapshot_store, specs
from bundler.terminal import Progress


@dataclass(frozen=True)
class Gathered:
    """Everything that goes into a bundle, and the service that the box will offer from it."""

    captured: tuple[Captured, ...]
    service: service.Service
    encoder: BuildEncoder | None


@dataclass(frozen=True)
class Sources:
    """Fetches what a profile names, once each.

    Attributes:
        profile: Whose sources.
        cache: HOME/cache, where downloads are kept between builds.
        work: The private work folder.
        say: Hears what is being done.
        vectors: Where vectors of earlier builds lie, and what opens them; None computes all anew.
        conversions: Embedding models that earlier builds converted; None converts anew.
        lock: What remote sources were before.
        wheels: Where wheels are kept, where that is not in `cache`.
        offline: Whether only what is in the cache may be used.
        watch: Makes a progress line of a label and a total in bytes, or None.
        token: Returns the token that the builder keeps for a hub's address; None keeps none.
        opened: Vector stores of the profile, by name, each once it was opened.
        seen: Chat templates of the profile, once they were looked at.
        beside: What models were held against and does not travel: base models' templates, signatures; by source.
    """

    profile: Profile
    cache: Path
    work: Path
    say: Callable[[str], None]
    vectors: VectorCache | None = None
    conversions: Conversions | None = None
    lock: Lock = field(default_factory=no_lock)
    wheels: Path | None = None
    offline: bool = False
    watch: Callable[[str, int], Progress] | None = None
    token: Callable[[str], str] | None = None
    opened: dict[str, Opened] = field(default_factory=dict)
    seen: list[templates.Seen] = field(default_factory=list)
    beside: dict[str, Fetched] = field(default_factory=dict)

    @property
    def place(self) -> Place:
        wheels = self.wheels or self.cache / "wheels"
        pins, base = self.lock.pins, self.profile.base
        return Place(base, self.cache, wheels, self.work, pins, self.offline, self.watch, self.token, self.say)

    def fetch(self, text: str) -> Fetched:
        self.say(f"taking {text}")
        return fetch(text, self.place)

    def embedding(self) -> EmbeddingEntry | None:
        """Returns the profile's embedding model with the way that it is taken; a hub is asked for it once."""
        entry = self.profile.embedding
        return settled(entry, self.place) if entry is not None else None

    def found(self) -> dict[str, tuple[Found, Fetched]]:
        """Fetches every model file and image; returns them by source text, for the plan and the capture."""
        wanted: list[tuple[str, str, ModelEntry | EmbeddingEntry]] = []
        wanted += [("model", entry.source, entry) for entry in self.profile.models]
        if (embedding := self.embedding()) is not None:
            wanted += [("embedding", embedding.source + name, embedding) for name in embedding_files(embedding)]
        result = {}
        for text in {entry.template for entry in self.profile.models if entry.template}:
            self._beside(text)
        signatures = Signatures(self._beside, lambda text: local_file(self.profile, text))
        for part, source, entry in wanted:
            # A model is large and hashed once, when it is captured; what is converted is known by its source's digest.
            fetched = self.fetch(source) if part == "model" else hashed(self.fetch(source))
            if entry.licence_file:
                fetched = replace(fetched, licence_text=local_file(self.profile, entry.licence_file))
            signer = ""
            if entry.signer is not None:
                fetched, signer = signatures.check(entry.signer, entry.source, fetched)
            item = replace(self._found(part, source, fetched, entry.licence), signature=signer)
            result[source] = (stated(item, fetched, entry) if isinstance(entry, ModelEntry) else item, fetched)
        for image in self.profile.images:
            self.say(f"taking {image.source}")
            fetched = fetch_image(image.source, image.platform, self.place)
            result[image.source] = (self._found("image", image.source, fetched, image.licence), fetched)
        return result

    def _beside(self, text: str) -> Fetched:
        self.beside[text] = fetched = self.fetch(text)
        return fetched

    def pins(self, found: Mapping[str, tuple[Found, Fetched]]) -> dict[str, Pin]:
        """Returns the pins of what was found, and of branches and tags that models were held against."""
        beside = {text: item for text, item in self.beside.items() if item.resolved}
        held = {text: Pin(item.length_bytes, item.sha256, item.resolved) for text, item in beside.items()}
        return held | pins(item for item, _ in found.values())

    def converted(self, found: Mapping[str, tuple[Found, Fetched]]) -> Converted | None:
        """Converts the embedding model, if the profile has one; which precision it gets is part of the plan."""
        entry = self.embedding()
        if entry is None:
            return None
        files = {name: found[entry.source + name][1] for name in embedding_files(entry)}
        return convert_embedding(entry, files, self.work, self.say, self.conversions)

    @staticmethod
    def _found(part: str, source: str, fetched: Fetched, licence: str) -> Found:
        told = fetched.licence_text is not None
        parts = tuple(PinnedPart(part.path, part.length_bytes, part.sha256) for part in fetched.parts)
        return Found(
            part,
            source,
            fetched.length_bytes,
            fetched.sha256,
            licence,
            licence_text=told,
            resolved=fetched.resolved,
            parts=parts,
            declared=fetched.licence or "",
        )

    def templates(self, found: Mapping[str, tuple[Found, Fetched]]) -> list[str]:
        """Looks at the models' chat templates, once; returns what the plan tells of them."""
        if not self.seen:
            files = {source: fetched.path for source, (_, fetched) in found.items()}
            # Compared with and not shipped, so neither in the plan's sizes nor under the licence gate.
            bases = {item.name: self.beside[item.template].path for item in self.profile.models if item.template}
            self.seen.extend(templates.look(self.profile, files, bases, self.cache / "templates"))
        return [line for item in self.seen for line in item.lines]

    def keep_templates(self) -> None:
        """Keeps the templates for the next build to compare its own with."""
        templates.keep(self.profile, self.seen, self.cache / "templates")

    def stores(self) -> dict[str, Opened]:
        """Opens every vector store, once a build, so that what was planned is what goes in."""
        for entry in self.profile.vectors:
            if entry.name not in self.opened:
                if self.offline and entry.source.startswith("chroma:"):
                    raise SourceFailed(
                        f"{entry.source} is asked at each build, and this one is offline",
                        "snapshot a copy of its directory instead, or leave --offline out",
                    )
                self.say(f"opening the vector store {entry.name}")
                self.opened[entry.name] = open_store(self.profile, entry, self.work)
        return self.opened

    def local(self) -> list[Found]:
        """Returns the size of each content folder or file for the plan; they are read when they are compiled.

        Asked before `found`, too: nobody waits for a download to hear of a missing file.

        Raises:
            BadInput: One of them does not exist, or the cases of the self-test are wrong or ask for what is not there.
        """
        _cases(self.profile)
        parts = {"documents": self.profile.documents, "faq": self.profile.faqs, "router": self.profile.routers}
        return [
            sized(part, entry.source, local_path(self.profile, entry.source))
            for part, entries in parts.items()
            for entry in entries
        ]

    def content(self) -> list[Found]:
        """Returns `local`, and what the vector stores hold; these are opened."""
        return self.local() + [opened.found(self.profile) for opened in self.stores().values()]


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
    images = _images(sources, found)
    captured += [file for _, files in images for file in files]
    spec, encoder = None, None
    if converted is not None:
        spec, encoder = converted.spec(), make_encoder(converted, sources.vectors)
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


def _cases(profile: Profile) -> list[Mapping[str, Any]]:
    """Returns the cases of the self-test; raises BadInput where the profile has no content that they ask for."""
    files = profile.selftest.cases if profile.selftest is not None else ()
    rows = [row for file in files for row in read_records(local_file(profile, file), _case)]
    if lacking := selftest.without_content([selftest.case_of(row) for row in rows], profile.case_kinds):
        raise BadInput(
            f"the self-test asks what the profile does not have: {'; '.join(lacking)}",
            "add the content, or take these cases out of the files that [selftest] names",
        )
    return rows


def _selftest(sources: Sources) -> Captured | None:
    entry = sources.profile.selftest
    if entry is None:
        return None
    rows, file = _cases(sources.profile), sources.work / SELFTEST
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return _small(SELFTEST, file, "selftest", "", " ".join(entry.cases))


def _case(row: Mapping[str, Any], _: int) -> Mapping[str, Any]:
    selftest.case_of(row)  # raises what is wrong with it
    return row


def _small(path: str, file: Path, kind: str, licence: str, source: str) -> Captured:
    return Captured(path, file, kind, licence, source, row_cuts(file), CHUNK_BYTES_SMALL)
