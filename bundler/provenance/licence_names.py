"""Licences of a profile that are no SPDX expressions, each with the identifier that is likely meant. Pure."""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import cache
from itertools import chain

from bundler.profile.model import Profile
from bundler.provenance.licences import spdx_identifiers, unknown_names

_NEAR = 0.85  # of difflib, among squeezed names
_VERSIONED = re.compile(r"[a-z]{3,}[0-9.]+")  # begins an identifier, as "bsd3" does; "bsd" alone begins too many
_NOISE = re.compile(r"\b(the|licen[sc]e|version|software|agreement)\b|[.]0(?![0-9])|[^a-z0-9]|v(?=[ .]?[0-9])")
_OWN = "take one of https://spdx.org/licenses, or write LicenseRef-NAME for a licence that is not listed there"


def licence_warnings(profile: Profile) -> list[str]:
    """Returns a line for each licence that the profile states and that is no SPDX expression."""
    models = [(f"[[model]] {entry.name}", entry.licence) for entry in profile.models]
    embedding = [(f"[embedding] {entry.name}", entry.licence) for entry in (profile.embedding,) if entry is not None]
    images = [(f"[[image]] {entry.name}", entry.licence) for entry in profile.images]
    return [
        f"{where}: {licence!r} is no SPDX expression: {_way_out(names)}"
        for where, licence in chain(models, embedding, images)
        if licence and (names := unknown_names(licence))
    ]


def likely(name: str) -> str:
    """Returns the SPDX identifier that a name is likely meant for, or "" where none is near."""
    wanted, known = _squeezed(name), _known()
    if wanted in known:
        return known[wanted]
    if _VERSIONED.fullmatch(wanted) and (longer := [each for each in known if each.startswith(wanted)]):
        return known[min(longer, key=lambda each: (len(each), each))]
    near = get_close_matches(wanted, [each for each in known if each[0] == wanted[:1]], 1, _NEAR)
    return known[near[0]] if near else ""


def _way_out(names: list[str]) -> str:
    found = [_choice(guess) for name in names if (guess := likely(name))]
    return f"{', '.join(found)} is likely meant" if found else _OWN


def _choice(name: str) -> str:
    """Who writes GPLv3 says neither of the two that SPDX has."""
    bare = name.removesuffix("-only")
    return name if bare == name else f"{name} or {bare}-or-later"


def _squeezed(name: str) -> str:
    later = name.rstrip().endswith("+")
    return _NOISE.sub("", name.casefold()) + ("orlater" if later else "")


@cache
def _known() -> dict[str, str]:
    """SPDX's own identifiers by their squeezed form; of two with one form the shorter."""
    names = sorted(spdx_identifiers(), key=lambda name: (-len(name), name))
    return {_squeezed(name): name for name in names}
