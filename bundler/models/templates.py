"""The chat templates of a profile's models: what is told of them in the plan, and what they were at the last build."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import Any

from bundler.capture import chat_template, gguf
from bundler.files import read_limited, write_atomic
from bundler.format.errors import FileMissing
from bundler.format.gguf_header import read_header
from bundler.format.reader import AssetReader
from bundler.format.service import CHAT
from bundler.profile.model import Profile

_TEXT_BYTES = 4 * gguf.CHAT_TEMPLATE_CHARS


@dataclass(frozen=True)
class Seen:
    """The template of one model: its text ("" where the model brings none) and what is told of it."""

    model: str
    text: str
    lines: tuple[str, ...]


def look(profile: Profile, files: Mapping[str, Path], bases: Mapping[str, Path], kept: Path) -> tuple[Seen, ...]:
    """Looks at the template of every chat model.

    Args:
        profile: Its models.
        files: Where each model lies, by its source.
        bases: Where the base model's template lies, by the model's name, for those that name one.
        kept: The folder where those of the last build are kept.

    Raises:
        BadInput: A template is refused; the fact names the model.
    """
    seen = []
    for entry in profile.models:
        if entry.serves != CHAT:
            continue
        text = gguf.inspect(files[entry.source]).chat_template or ""
        before = _read(_file(kept, profile, entry.name))
        seen.append(_told(entry.name, text, before, bases.get(entry.name)))
    return tuple(seen)


def keep(profile: Profile, seen: Iterable[Seen], kept: Path) -> None:
    """Keeps the templates of a build that ended well, for the next one to be compared with."""
    for item in seen:
        write_atomic(_file(kept, profile, item.model), item.text.encode("utf-8", "surrogatepass"), mode=0o600)


def template_in(reader: AssetReader) -> str:
    """Returns the chat template of a model in a bundle, "" where it brings none; the bytes are authenticated."""
    with BufferedReader(_Header(reader), 1 << 20) as file:
        return read_header(file).text("tokenizer.chat_template") or ""


class _Header(RawIOBase):
    """A model in a bundle as a file; only what is read is decrypted."""

    def __init__(self, reader: AssetReader) -> None:
        self._reader, self._at = reader, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + {0: 0, 1: self._at, 2: self._reader.size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = self._reader.read_at(self._at, memoryview(buffer))
        self._at += count
        return count


def _told(name: str, text: str, before: str | None, base: Path | None) -> Seen:
    if not text:
        gone = ("; it brought one before",) if before else ("",)
        return Seen(name, text, (f"chat template of {name}: it brings none, so the box uses ChatML{gone[0]}",))
    found = chat_template.look(name, text, before=before, base=base)
    lines = [f"chat template of {name}: {warning}" for warning in found.warnings]
    if found.since:
        lines += [f"chat template of {name}: not as in the last build", *(f"  {line}" for line in found.since)]
    if found.base:
        lines += [f"chat template of {name}: not that of the base model", *(f"  {line}" for line in found.base)]
    if base is not None and not found.base:
        lines.append(f"chat template of {name}: that of the base model")
    return Seen(name, text, tuple(lines))


def _file(kept: Path, profile: Profile, model: str) -> Path:
    name = f"{profile.base.resolve()}\0{profile.name}\0{model}"
    return kept / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.jinja"


def _read(path: Path) -> str | None:
    try:
        return read_limited(path, _TEXT_BYTES).decode("utf-8", "surrogatepass")
    except FileMissing:
        return None
