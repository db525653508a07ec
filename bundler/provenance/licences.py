"""The licence gate: what the profile states of a source, and what the source declares, against `[licences]`. Pure.

An expression is allowed if one of its choices is: of `A OR B` one, of `A AND B` both. With an allow list, what is no
known SPDX identifier or `LicenseRef-` and is not named in the list is refused. A deny list wins over an allow list.
What a source declares is foreign: an expression of too many words or choices is not taken apart, and never allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from license_expression import ExpressionError, LicenseWithExceptionSymbol, Licensing, get_spdx_licensing

from bundler.format.errors import BadInputs
from bundler.plan import Found
from bundler.profile.model import LicenceRules

# The parser stumbles over some texts instead of refusing them.
_UNREADABLE = (ExpressionError, AttributeError, TypeError)
# Parts of the profile that come from somebody else; documents and FAQs are the customer's own.
_OWN = ("documents", "faq", "router", "selftest", "vectors")
_TEXT = 500  # characters; nobody's expression is longer, and a long one takes the parser long
# Each `AND (A OR B)` doubles them: 500 characters hold more ways than memory does.
_WAYS = 256
# Names of licences that PyPI's classifiers and model files carry in place of SPDX identifiers.
_NAMES = {
    "apache software license": "Apache-*",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "bsd license": "BSD-*",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
}


def refused(licence: str, rules: LicenceRules) -> str:
    """Returns why a licence may not go into a bundle, or "".

    Args:
        licence: An SPDX expression, or whatever stands in its place; "" where none is known.
        rules: Of the profile.
    """
    if rules.allow is None and not rules.deny:
        return ""
    if not licence.strip():
        return "" if rules.allow is None else "no licence is known"
    try:
        choices = _expression(licence)
    except _TooMuch:
        return f"{licence.strip()[:60]!r}... is too long to be judged, so it is not allowed"
    except _UNREADABLE:
        return _judged([licence.strip()], rules)
    return min((_judged(choice, rules) for choice in choices), key=bool)


def contradiction(found: Found) -> str:
    """Returns how the profile and the source differ about the licence, or "".

    A source that declares nothing contradicts nothing.
    """
    differing = [text for text in found.declared.split(" + ") if text and not _agree(found.licence, text)]
    if not found.licence or not differing:
        return ""
    return f"the profile says {found.licence}, the source declares {differing[0][:_TEXT]}"


def issues(found: Iterable[Found], rules: LicenceRules) -> list[str]:
    """Returns a line for everything that the rules refuse; without rules nothing is refused."""
    if rules.allow is None and not rules.deny:
        return []
    lines = []
    for item in found:
        if item.part not in _OWN:
            reasons = (refused(item.licence or item.declared, rules), contradiction(item))
            lines += [f"{item.source}: {reason}" for reason in reasons if reason]
    return lines


def require(found: Sequence[Found], rules: LicenceRules) -> None:
    """Refuses sources whose licence must not go into a bundle; raises BadInputs with all of them."""
    if lines := issues(found, rules):
        raise BadInputs(
            "the licences of the sources",
            tuple(dict.fromkeys(lines)),
            "take the source out, or change [licences] or the licence that the profile states",
        )


def _judged(names: Sequence[str], rules: LicenceRules) -> str:
    """Judges licences that hold together; returns why not, or ""."""
    for name in names:
        if any(_matches(name, pattern) for pattern in rules.deny):
            return f"{name} is denied"
    for name in names:
        if rules.allow is not None and not any(_matches(name, pattern) for pattern in rules.allow):
            return f"{name} is not allowed"
    return ""


def _matches(name: str, pattern: str) -> bool:
    """Whether a rule names a licence; one without `WITH` covers its exceptions too, which only add permissions."""
    bare = name.casefold().partition(" with ")[0]
    return fnmatchcase(bare, pattern.casefold())


class _TooMuch(Exception):
    """An expression is longer, or has more ways to fulfil it, than anybody's."""


def _expression(licence: str) -> list[list[str]]:
    """Returns the ways to fulfil a licence; raises `_TooMuch`, or one of `_UNREADABLE` where it is no expression."""
    if len(licence) > _TEXT:
        raise _TooMuch
    return _choices(_spdx().parse(licence))


def _choices(node: Any) -> list[list[str]]:
    """Returns the ways to fulfil an expression, each a list of licences that hold together."""
    if isinstance(node, _spdx().OR):
        return [choice for part in node.args for choice in _choices(part)]
    if isinstance(node, _spdx().AND):
        ways: list[list[str]] = [[]]
        for part in node.args:
            found = _choices(part)
            if len(ways) * len(found) > _WAYS:
                raise _TooMuch
            ways = [[*way, *more] for way in ways for more in found]
        return ways
    if isinstance(node, LicenseWithExceptionSymbol):
        return [[f"{node.license_symbol.key} WITH {node.exception_symbol.key}"]]
    return [[str(node.key)]]


def _agree(stated: str, declared: str) -> bool:
    """Whether what a profile states covers what a source declares, by a common name or as SPDX expressions.

    Each way to fulfil the one must fulfil the other: `Apache-2.0 AND MIT` covers `MIT`, and `GPL-3.0-only OR MIT` is
    not covered by `GPL-3.0-only` as a source of its own.
    """
    if family := _NAMES.get(declared.strip().casefold()):
        return all(any(fnmatchcase(name, family.casefold()) for name in way) for way in _ways(stated))
    return all(any(held <= way for held in _ways(declared)) for way in _ways(stated))


def _ways(licence: str) -> list[set[str]]:
    """Returns the ways to fulfil a licence as sets of names without case; a text that is no expression is one name."""
    found = [[licence.strip()]]
    with suppress(_TooMuch, *_UNREADABLE):
        found = _expression(licence)
    return [{name.casefold().removeprefix("licenseref-") for name in way} for way in found]


@cache
def _spdx() -> Licensing:
    return get_spdx_licensing()
