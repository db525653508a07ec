"""`faq check`: an FAQ file by itself, and where a profile is named with the profile's embedding model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from bundler.embedding import EMBEDDING_FILES, convert_embedding, make_encoder
from bundler.gather import Sources
from bundler.ingest.faq import faq_issues, read_faq
from bundler.knowledge.encoder import Encoder
from bundler.profile.read import read_profile


def check_faq(file: Path, profile: Path | None, wheels: Path | None, say: Callable[[str], None]) -> list[str]:
    """Returns the issues of an FAQ.

    Raises:
        BadInput: The file is no FAQ.
    """
    entries = read_faq(file)
    return faq_issues(entries, None if profile is None else _encoder(profile, wheels, say))


def _encoder(profile: Path, wheels: Path | None, say: Callable[[str], None]) -> Encoder | None:
    read = read_profile(profile)
    if read.embedding is None:
        return None
    with tempfile.TemporaryDirectory(prefix="lifeboat-faq-") as folder:
        work = Path(folder)
        sources = Sources(read, wheels or work / "wheels", work, say)
        files = {name: sources.fetch(read.embedding.source + name) for name in EMBEDDING_FILES}
        return make_encoder(convert_embedding(read.embedding, files, work, say))
