"""What a GGUF says of itself, for the plan: its licence, and what an SBOM tells of a model."""

from __future__ import annotations

from dataclasses import replace

from bundler.capture import gguf
from bundler.plan import Found
from bundler.sources.source import Fetched

_TASKS = {"chat": "text-generation", "embedding": "feature-extraction", "rerank": "text-ranking"}


def stated(found: Found, fetched: Fetched, serves: str) -> Found:
    """Returns what was found with what the header of the file says.

    Raises:
        BadInput: The file is no model, or its header does not add up.
    """
    facts = gguf.inspect(fetched.path)
    told = {
        "architecture": facts.architecture,
        "context-length": str(facts.context_length),
        "name": facts.name or "",
        "parameters": str(facts.parameters),
        "quantisation": facts.quantisation,
        "task": _TASKS.get(serves, serves),
    }
    known = tuple((name, value) for name, value in sorted(told.items()) if value)
    return replace(found, declared=both(found.declared, facts.licence or ""), facts=known)


def both(of_the_source: str, of_the_file: str) -> str:
    """Returns the licence that source and file declare; where they differ, both, joined by a plus sign."""
    said = [text.strip() for text in (of_the_source, of_the_file) if text.strip()]
    return said[0] if len({text.casefold() for text in said}) == 1 else " + ".join(said)
