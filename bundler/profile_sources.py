"""What a profile names, each thing taken once: fetched, checked against the lock, and told to the plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bundler.embedding.conversions import Conversions
from bundler.embedding.model import Converted, VectorCache, convert_embedding, embedding_files
from bundler.embedding.offer import settled
from bundler.format.errors import BadInput, SourceFailed
from bundler.ingest.lines import read_records
from bundler.knowledge import selftest
from bundler.local import local_file, local_path, sized
from bundler.lock import Lock, Pin, PinnedPart, no_lock
from bundler.models import licence_text, templates
from bundler.models.signatures import Signatures
from bundler.models.statements import stated
from bundler.plan import Found, pins
from bundler.profile.model import EmbeddingEntry, ModelEntry, Profile
from bundler.sources.fetch import fetch, fetch_image
from bundler.sources.file import hashed
from bundler.sources.place import Place
from bundler.sources.source import Fetched
from bundler.stores import Opened, open_store
from bundler.terminal import Progress


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

    def fetch(self, text: str, *, attached: bool = False) -> Fetched:
        """Fetches a source, and what a registry holds about it where it is `attached`."""
        self.say(f"taking {text}")
        return fetch(text, replace(self.place, attached=attached))

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
            fetched = self.fetch(source, attached=True)
            fetched = fetched if part == "model" else hashed(fetched)
            if entry.licence_file:
                fetched = _with_text(fetched, local_file(self.profile, entry.licence_file))
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
            titles=_titles(fetched),
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
        self.cases()
        parts = {"documents": self.profile.documents, "faq": self.profile.faqs, "router": self.profile.routers}
        return [
            sized(part, entry.source, local_path(self.profile, entry.source))
            for part, entries in parts.items()
            for entry in entries
        ]

    def cases(self) -> list[Mapping[str, Any]]:
        """Returns the cases of the self-test; raises BadInput where the profile has no content that they ask for."""
        files = self.profile.selftest.cases if self.profile.selftest is not None else ()
        rows = [row for file in files for row in read_records(local_file(self.profile, file), _case)]
        if lacking := selftest.without_content([selftest.case_of(row) for row in rows], self.profile.case_kinds):
            raise BadInput(
                f"the self-test asks what the profile does not have: {'; '.join(lacking)}",
                "add the content, or take these cases out of the files that [selftest] names",
            )
        return rows

    def content(self) -> list[Found]:
        """Returns `local`, and what the vector stores hold; these are opened."""
        return self.local() + [opened.found(self.profile) for opened in self.stores().values()]


def _with_text(fetched: Fetched, file: Path) -> Fetched:
    return replace(fetched, licence_text=file, licence_text_stands_out=True)


def _titles(fetched: Fetched) -> tuple[str, ...]:
    """Returns none of a text that is not seen whole, or is one of several: the stated licence may be in the rest."""
    if fetched.licence_text is None or not fetched.licence_text_stands_out:
        return ()
    with fetched.licence_text.open("rb") as file:
        text = file.read(licence_text.READ_BYTES + 1)
    return licence_text.titles(text.decode("utf-8", "replace")) if len(text) <= licence_text.READ_BYTES else ()


def _case(row: Mapping[str, Any], _: int) -> Mapping[str, Any]:
    selftest.case_of(row)  # raises what is wrong with it
    return row
