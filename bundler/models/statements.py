"""What a GGUF says of itself, for the plan: its licence, and what an SBOM tells of a model."""

from __future__ import annotations

from dataclasses import replace

from bundler.capture import gguf
from bundler.format.errors import BadInput
from bundler.plan import BOTH, Found
from bundler.profile.model import ModelEntry
from bundler.sources.source import Fetched

_TASKS = {"chat": "text-generation", "embedding": "feature-extraction", "rerank": "text-ranking"}


def stated(found: Found, fetched: Fetched, entry: ModelEntry) -> Found:
    """Returns what was found with what the header of the file says.

    Raises:
        BadInput: The file is no model, its header does not add up, or it cannot do what the profile wants of it.
    """
    facts = gguf.inspect(fetched.path)
    _require_fit(entry, facts)
    told = {
        "architecture": facts.architecture,
        "context-length": str(facts.context_length),
        "name": facts.name or "",
        "parameters": str(facts.parameters),
        "quantisation": facts.quantisation,
        "task": _TASKS.get(entry.serves, entry.serves),
    }
    known = tuple((name, value) for name, value in sorted(told.items()) if value)
    return replace(found, declared=both(found.declared, facts.licence or ""), facts=known)


def _require_fit(entry: ModelEntry, facts: gguf.GgufFacts) -> None:
    if entry.context_tokens > facts.context_length:
        raise BadInput(
            f"{entry.name}: context_tokens is {entry.context_tokens}, the model was trained for {facts.context_length}",
            f"the [[model]] {entry.name!r} of the profile or its tier may ask for {facts.context_length} at most",
        )
    if (problem := gguf.unfit(facts, entry.serves)) is not None:
        raise BadInput(f"{entry.name}: {problem}")


def both(of_the_source: str, of_the_file: str) -> str:
    """Returns the licence that source and file declare; where they differ, both, joined by a plus sign."""
    said = [text.strip() for text in (of_the_source, of_the_file) if text.strip()]
    return said[0] if len({text.casefold() for text in said}) == 1 else BOTH.join(said)
