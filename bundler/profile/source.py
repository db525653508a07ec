"""The `source` of a model, with its `commit` where that is a key of its own."""

from __future__ import annotations

import re
from dataclasses import replace

from bundler.format.errors import BadInput
from bundler.profile.table import Table
from bundler.sources.source import UNRESOLVED, HubSource, parse

_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def read_source(table: Table) -> str:
    """Returns the source as if the commit stood in it (`hub:ORG/REPO@COMMIT/FILE`).

    `commit` is a commit's 40 hexadecimal digits, a branch, a tag, or "unresolved" for the default branch: what a lock
    then pins is a commit.
    """
    text = table.text("source")
    if not table.has("commit"):
        return text
    commit = table.text("commit")
    if not _REVISION.fullmatch(commit):
        table.issue(f"commit is {commit!r}, expected 40 hexadecimal digits, a branch, a tag or {UNRESOLVED!r}")
        return text
    try:
        source = parse(text) if text.startswith("hub:") else None
    except BadInput as error:
        table.issue(error.fact)
        return text
    if not isinstance(source, HubSource):
        table.issue(f"commit is for hub: sources, and source is {text!r}")
        return text
    if source.revision != UNRESOLVED:
        table.issue(f"commit is {commit!r}, and source names {source.revision!r} already")
        return text
    return str(replace(source, revision=commit))
