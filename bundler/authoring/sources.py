"""Whether what a profile names as `file:` for its models and vector stores is there; nothing of it is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bundler.embedding.model import embedding_files
from bundler.format.errors import BadInput
from bundler.local import local_file
from bundler.models.signatures import default_place
from bundler.profile.model import EmbeddingEntry, ModelEntry, Profile
from bundler.profile.vectors import FAISS, JSONL
from bundler.sources.source import FileSource, RegistrySource, Source, parse


def source_issues(profile: Profile) -> list[str]:
    """Returns a line for each source of a model, embedding model or vector store that is none, or names no file."""
    found: list[str] = []
    for model in profile.models:
        where = f"[[model]] {model.name}"
        found += _lacking(profile.base, where, "source", model.source)
        found += _lacking(profile.base, where, "template", model.template)
        found += _beside(profile, where, model)
    if profile.embedding is not None:
        where = f"[embedding] {profile.embedding.name}"
        found += _embedding(profile.base, where, profile.embedding)
        found += _beside(profile, where, profile.embedding)
    return [*found, *_stores(profile)]


def _beside(profile: Profile, where: str, entry: ModelEntry | EmbeddingEntry) -> Iterator[str]:
    """What a model is shipped with, and what it is held against."""
    yield from _not_local(profile, where, "licence_file", entry.licence_file)
    if entry.signer is not None:
        yield from _not_local(profile, where, "signer_key", entry.signer.key)
        signature = entry.signer.signature or _signature_of(entry.source)
        yield from _lacking(profile.base, where, "signature", signature)


def _signature_of(model: str) -> str:
    try:
        return "" if _is_image(parse(model)) else default_place(model, "")
    except BadInput:  # the source itself is none, which is told by then, as it is of an image
        return ""


def _is_image(source: Source | None) -> bool:
    return isinstance(source, RegistrySource) and not source.member


def _embedding(base: Path, where: str, entry: EmbeddingEntry) -> Iterator[str]:
    folder = base / entry.source.removeprefix("file:")
    if entry.source.startswith("file:") and not folder.is_dir():
        yield f"{where}: source: {entry.source} is no folder (looked at {folder})"
    elif entry.source.startswith("file:") and not entry.source.endswith("/"):
        yield f"{where}: source: {entry.source} is a folder: write {entry.source}/"
    elif entry.source.startswith("file:"):
        for name in embedding_files(entry):
            yield from _lacking(base, where, "source", entry.source + name)
    else:
        yield from _lacking(base, where, "source", entry.source + embedding_files(entry)[0])


def _stores(profile: Profile) -> Iterator[str]:
    for store in profile.vectors:
        where, path = f"[[vectors]] {store.name}", profile.base / store.source.removeprefix("file:")
        if store.kind in (FAISS, JSONL):
            yield from _not_local(profile, where, "source", store.source)
        elif not store.url and not path.exists():
            yield _told(where, "source", store.source, "does not exist", path)
        elif not store.url and not store.kind and not path.is_dir():
            yield f'{where}: source: nothing tells what store {store.source} is: set kind = "faiss" or "jsonl"'
        yield from _not_local(profile, where, "texts", store.texts)


def _not_local(profile: Profile, where: str, key: str, text: str) -> Iterator[str]:
    """Tells of what must be a file of this machine and is none; of "" nothing."""
    try:
        if text:
            local_file(profile, text)
    except BadInput as error:
        yield f"{where}: {key}: {error.fact}"


def _lacking(base: Path, where: str, key: str, text: str) -> Iterator[str]:
    """Tells of a source that is no source, or a file that is not there; of "" and what is remote nothing."""
    try:
        source = parse(text) if text else None
    except BadInput as error:
        yield f"{where}: {key}: {error.fact}; {error.hint}" if error.hint else f"{where}: {key}: {error.fact}"
        return
    if _is_image(source):
        yield f"{where}: {key}: {text} names an image, and a file of an artifact is wanted: write {text}/FILE"
    if isinstance(source, FileSource) and not (path := base / source.path).is_file():
        yield _told(where, key, text, "is not a file" if path.exists() else "does not exist", path)


def _told(where: str, key: str, source: str, what: str, path: Path) -> str:
    return f"{where}: {key}: {source} {what} (looked at {path})"
