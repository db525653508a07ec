"""`[ladder.cache]` and `[route.cache]`: how long answers are kept, and where the cache may stand. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bundler.format.service import CACHE, CacheSpec, RungSpec
from bundler.profile.table import Table

KEEP, KEEP_LEAST_S, KEEP_MOST_S = "7d", 60, 30 * 86_400
FRESH = "0s"
RUNG = RungSpec(CACHE, CACHE, "")


def read_cache(table: Table) -> CacheSpec | None:
    """Reads the inner table `cache` of a route or of the ladder, None where there is none."""
    if not table.has(CACHE):
        return None
    inner = table.inner(CACHE)
    keep_s = inner.duration("keep", KEEP, KEEP_LEAST_S, KEEP_MOST_S)
    found = CacheSpec(keep_s=keep_s, fresh_s=inner.duration("fresh", FRESH, 0, keep_s))
    inner.close()
    return found


def is_used(tables: Sequence[Table]) -> bool:
    """Says whether any of the tables has a cache; the rung is in no other profile."""
    return any(table.has(CACHE) for table in tables)


def cache_issues(rungs: Sequence[RungSpec], spec: CacheSpec | None) -> list[str]:
    """Returns what does not go together.

    Args:
        rungs: The rungs of a ladder, in order.
        spec: What is said of its answers.
    """
    kinds = [rung.kind for rung in rungs]
    if spec is None:
        return ["names 'cache', and no cache table says how long answers are kept"] if CACHE in kinds else []
    if "upstream" not in kinds:
        return ["has a cache and no upstream: only answers of providers are kept"]
    if CACHE not in kinds:
        return [] if spec.fresh_s else ["has a cache that is never asked: name 'cache' among its rungs, or set fresh"]
    if "upstream" not in kinds[: kinds.index(CACHE)]:
        return ["names 'cache' before any upstream: it answers where those above it have failed"]
    return []
