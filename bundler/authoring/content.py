"""Reads the content that a profile names beside itself, without network or models; what cannot be read is noted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bundler.format.errors import BadInput, BadInputs
from bundler.ingest.faq import FaqEntry, read_faq
from bundler.ingest.lines import read_records
from bundler.ingest.readers import Document, read_folder
from bundler.ingest.routes import RouteExample, read_routes
from bundler.knowledge.selftest import Case, case_of
from bundler.local import local_file, local_path, sized
from bundler.profile.model import ContentEntry, Profile

T = TypeVar("T")


@dataclass(frozen=True)
class Content:
    """What was read, by the name of its table.

    Attributes:
        cases: The cases of the self-test.
        text_bytes: How much of it is plain text that gets vectors.
        issues: What could not be read, and why.
    """

    documents: dict[str, tuple[Document, ...]]
    faqs: dict[str, tuple[FaqEntry, ...]]
    routers: dict[str, tuple[RouteExample, ...]]
    cases: tuple[Case, ...]
    text_bytes: int
    issues: tuple[str, ...]


def read_content(profile: Profile) -> Content:
    """Reads documents, FAQs, routers and self-test cases."""
    issues: list[str] = []
    sizes: list[int] = []

    def each(key: str, entries: tuple[ContentEntry, ...], read: Callable[[Path], list[T]]) -> dict[str, tuple[T, ...]]:
        def one(source: str) -> list[T]:
            path = local_path(profile, source)
            sizes.append(sized(key, source, path).text_bytes)
            return read(path)

        return {entry.name: tuple(_tried(f"[[{key}]] {entry.name}", one, entry.source, issues)) for entry in entries}

    def cases(source: str) -> list[Case]:
        return read_records(local_file(profile, source), _case)

    files = profile.selftest.cases if profile.selftest is not None else ()
    return Content(
        documents=each("documents", profile.documents, read_folder),
        faqs=each("faq", profile.faqs, read_faq),
        routers=each("router", profile.routers, read_routes),
        cases=tuple(case for file in files for case in _tried(f"[selftest] {file}", cases, file, issues)),
        text_bytes=sum(sizes),
        issues=tuple(issues),
    )


def _tried(where: str, read: Callable[[str], list[T]], source: str, issues: list[str]) -> list[T]:
    try:
        return read(source)
    except BadInputs as error:
        issues += [f"{where}: {issue}" for issue in error.issues]
    except BadInput as error:
        issues.append(f"{where}: {error.fact}")
    return []


def _case(row: Mapping[str, Any], _: int) -> Case:
    return case_of(row)
