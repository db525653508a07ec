"""`[[route]]`: logical models, each with its ladder, and what does not go together; all issues at once. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from bundler.format import strict_json
from bundler.format.service import (
    CONTINUE,
    CRITICAL,
    CRITICALITIES,
    ERROR,
    HOLD,
    LARGER,
    NORMAL,
    STREAMS,
    TOO_LONG,
    OutputSpec,
    RouteSpec,
    RungSpec,
    UpstreamSpec,
)
from bundler.profile.cache import cache_issues, read_cache
from bundler.profile.table import Table

AUTO = "auto"
LANGUAGES = ("da", "de", "en", "es", "fr", "it", "nl", "pl", "pt", "sv", "ar", "el", "he", "hi", "ja", "ko", "ru", "zh")
DEADLINE_LEAST_MS, DEADLINE_MOST_MS = 1_000, 3_600_000
JOBS_LEAST_S, JOBS_MOST_S = 60, 30 * 86_400
SCHEMA_CHARS = 100_000
PHRASE_CHARS = 200


def read_routes(
    tables: Sequence[Table], rungs: Sequence[RungSpec], upstreams: Sequence[UpstreamSpec]
) -> tuple[RouteSpec, ...]:
    """Reads the routes; every issue is noted at its table.

    Args:
        tables: The `[[route]]` tables.
        rungs: Every rung of the profile.
        upstreams: Every upstream of the profile.
    """
    by_name = {rung.name: rung for rung in rungs}
    routes: list[RouteSpec] = []
    for table in tables:
        route = _route(table)
        if route.name in by_name:
            table.issue(f"name {route.name!r} is a rung's: whoever asks for it means that one alone")
        if route.name in {earlier.name for earlier in routes}:
            table.issue(f"name {route.name!r} is used twice")
        _check(table, route, by_name, {upstream.name: upstream for upstream in upstreams})
        table.close()
        routes.append(route)
    return tuple(routes)


def read_languages(table: Table) -> tuple[str, ...]:
    """Reads a list of languages; one that the box cannot tell from others is an issue."""
    languages = table.texts("languages", [])
    for language in languages:
        if language not in LANGUAGES:
            table.issue(f"languages names {language!r}, expected of {', '.join(LANGUAGES)}")
    return languages


def read_jobs(table: Table) -> int:
    """Reads how long jobs are kept, in seconds; 0 where none are taken."""
    return table.duration("jobs", "", JOBS_LEAST_S, JOBS_MOST_S) if table.has("jobs") else 0


def _route(table: Table) -> RouteSpec:
    output = _output(table.inner("output")) if table.has("output") else None
    return RouteSpec(
        name=table.name(),
        rungs=table.texts("rungs"),
        stream=table.choice("stream", STREAMS, ERROR if output is None else HOLD),
        criticality=table.choice("criticality", CRITICALITIES, NORMAL),
        deadline_ms=table.integer("deadline_ms", DEADLINE_LEAST_MS, DEADLINE_LEAST_MS, DEADLINE_MOST_MS)
        if table.has("deadline_ms")
        else 0,
        too_long=table.choice("too_long", TOO_LONG, LARGER),
        output=output,
        regions=table.texts("regions") if table.has("regions") else None,
        cache=read_cache(table),
        jobs_keep_s=read_jobs(table),
    )


def _output(table: Table) -> OutputSpec:
    refusals = table.texts("refusals", [])
    if any(not phrase.strip() or len(phrase) > PHRASE_CHARS for phrase in refusals):
        table.issue(f"refusals must be phrases of 1 to {PHRASE_CHARS} characters")
    output = OutputSpec(
        schema=_schema(table), languages=read_languages(table), refusals=refusals, own_model=table.flag("own_model")
    )
    table.close()
    return output


def _schema(table: Table) -> str:
    if not table.has("schema"):
        return ""
    value = table.value("schema")
    if isinstance(value, str):
        try:
            value = strict_json.parse(value.encode())
        except ValueError as error:
            table.issue(f"schema is text that is not JSON: {error}")
            return ""
    if not isinstance(value, dict):
        table.issue("schema must be a table, or the JSON text of an object")
        return ""
    return _as_text(table, value)


def _as_text(table: Table, value: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError):  # TOML knows dates, "nan" and "inf"
        table.issue("schema holds what JSON has no word for")
        return ""
    if len(text) > SCHEMA_CHARS:
        table.issue(f"schema is longer than {SCHEMA_CHARS} characters")
    return text


def _check(
    table: Table, route: RouteSpec, rungs: Mapping[str, RungSpec], upstreams: Mapping[str, UpstreamSpec]
) -> None:
    known = [rungs[name] for name in route.rungs if name in rungs]
    for name in route.rungs:
        if name not in rungs:
            table.issue(f"rungs names {name!r}, which is not in the profile")
    if not route.rungs or len(set(route.rungs)) != len(route.rungs):
        table.issue("rungs must list at least one rung, and each once")
    if any(rung.kind == "message" for rung in known[:-1]):
        table.issue("rungs names 'message' before the end, and what comes after it is never asked")
    for issue in cache_issues(known, route.cache):
        table.issue(issue)
    if route.output is not None and route.stream != HOLD:
        table.issue(f"output is checked at the end of an answer, so stream must be {HOLD!r}, not {route.stream!r}")
    if route.stream == CONTINUE and not any(_goes_on(rung, upstreams) for rung in known[1:]):
        table.issue(
            f"stream is {CONTINUE!r}, and no rung after the first goes on with an answer that has begun: "
            "a [[model]] does, and an [[upstream]] with continues = true"
        )
    if route.criticality == CRITICAL and len(found := independent(known, upstreams)) < 2:
        table.issue(
            f"a critical route needs two rungs that do not fail together, found {', '.join(sorted(found)) or 'none'}: "
            "upstreams of one host count as one, so do all local models, and FAQs, documents and the message not at all"
        )


def independent(rungs: Sequence[RungSpec], upstreams: Mapping[str, UpstreamSpec]) -> set[str]:
    """Returns what can fail by itself under these rungs: the host of each upstream, and the local models together.

    FAQs and documents answer what they hold and no other question; the message answers none.
    """
    found = set()
    for rung in rungs:
        if rung.kind == "upstream":
            found.add(_host(upstreams[rung.target].base_url))
        elif rung.kind == "model":
            found.add("the local models")
    return found


def _host(base_url: str) -> str:
    try:
        return urlsplit(base_url).netloc.lower()
    except ValueError:  # an issue of its own
        return base_url


def _goes_on(rung: RungSpec, upstreams: Mapping[str, UpstreamSpec]) -> bool:
    return rung.kind == "model" or (rung.kind == "upstream" and upstreams[rung.target].continues)
