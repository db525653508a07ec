"""`[licences]`, and what `[bundle] public` shows to everybody."""

from __future__ import annotations

import re

from bundler.profile.model import BESIDE, LicenceRules
from bundler.profile.table import Table

_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*\*?")


def read_licences(table: Table) -> LicenceRules:
    """Reads the rules; an absent table allows everything."""
    allow = table.texts("allow") if table.has("allow") else None
    deny = table.texts("deny", [])
    for text in (*(allow or ()), *deny):
        if not _PATTERN.fullmatch(text):
            table.issue(f"{text!r} is not an SPDX identifier such as 'MIT', or the beginning of some such as 'GPL-*'")
    if allow == ():
        table.issue("allow is empty: nothing could be built; leave it out to allow what is not denied")
    table.close()
    return LicenceRules(allow, deny)


def read_public(bundle: Table) -> tuple[str, ...]:
    """Reads which documents lie beside a bundle, in the order of `BESIDE`."""
    named = bundle.texts("public", [])
    if strange := [name for name in named if name not in BESIDE]:
        bundle.issue(f"public names {strange[0]!r}, expected some of {', '.join(BESIDE)}")
    return tuple(name for name in BESIDE if name in named)
