"""The licence gate: what the profile states of a source, and what the source declares, against `[licences]`. Pure.

An expression is allowed if one of its choices is: of `A OR B` one, of `A AND B` both. With an allow list, what is no
known SPDX identifier or `LicenseRef-` and is not named in the list is refused. A deny list wins over an allow list.
Under either list a source of which no licence is known is refused: it may be what is denied.
What a source declares is foreign. An expression of too many words or choices is not taken apart, and never allowed.
Neither is a text that is no expression (`BSD, GPL-3.0`): no family (`BSD-*`) covers it, and it may hold what is denied.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from license_expression import ExpressionError, LicenseWithExceptionSymbol, Licensing, get_spdx_licensing

from bundler.format.errors import BadInputs
from bundler.format.index import Asset
from bundler.models.licence_text import can_be_told
from bundler.plan import BOTH, Found
from bundler.profile.model import LicenceRules

# The parser stumbles over some texts instead of refusing them.
_UNREADABLE = (ExpressionError, AssertionError, AttributeError, IndexError, TypeError)
# Parts of the profile that come from somebody else; documents and FAQs are the customer's own.
_OWN = ("documents", "faq", "router", "selftest", "vectors")
# Kinds of assets that come from somebody else.
_FOREIGN = ("gguf", "onnx", "tokenizer", "image")
# The sign of a rule for a family aside; a name of other signs is no identifier, whatever it looks like to a person.
_IDENTIFIER = re.compile(r"[A-Za-z0-9.+:-]+")
_LATER = re.compile(r"(\+|-only|-or-later)$")
UNKNOWN = "no licence is known"
_REFERENCES = ("LicenseRef-", "DocumentRef-")
_OPERATORS = re.compile(r"(?<![^\s()])(?:AND|OR|WITH)(?![^\s()])|[()]", re.IGNORECASE)
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
        return UNKNOWN
    try:
        choices = _expression(licence)
    except _TooMuch:
        return f"{licence.strip()[:60]!r}... is too long to be judged, so it is not allowed"
    except _UNREADABLE:
        return _unreadable(licence.strip(), rules)
    return min((_judged(choice, rules) for choice in choices), key=bool)


def unknown_names(licence: str) -> list[str]:
    """Returns the names of an expression that SPDX does not list and that are no `LicenseRef-`.

    Of what is no expression each part between its operators is looked at by itself.
    """
    try:
        names = {part for way in _expression(licence) for name in way for part in name.split(" WITH ")}
    except _TooMuch:
        return [licence]
    except _UNREADABLE:
        parts = [part.strip() for part in _OPERATORS.split(licence)]
        found = [name for part in parts if part for name in ([licence] if part == licence else unknown_names(part))]
        return found or [licence]
    return sorted(name for name in names if _is_unknown(name) and not name.startswith(_REFERENCES))


def spdx_identifiers() -> list[str]:
    """Returns the identifiers of licences that SPDX lists."""
    symbols = _spdx().known_symbols.items()
    return [name for name, symbol in symbols if not symbol.is_exception and not name.startswith(_REFERENCES)]


def travels_no_more(rules: LicenceRules, asset: Asset) -> bool:
    """Tells of an asset of an earlier bundle whether its licence is refused now.

    Documents, FAQs and what is made of them state none and need none.
    """
    return bool((asset.licence or asset.kind in _FOREIGN) and refused(asset.licence, rules))


def contradiction(found: Found) -> str:
    """Returns how the profile and the source differ about the licence, or "".

    A source that declares nothing contradicts nothing.
    """
    differing = [text for text in found.declared.split(BOTH) if text and not _agree(found.licence, text)]
    if not found.licence or not differing:
        return ""
    return f"the profile says {found.licence}, the source declares {differing[0][:_TEXT]}"


def another_text(found: Found) -> str:
    """Returns the licence that the text beside a source is by its title, where that is clearly another one, or "".

    A text that holds several is clear only if none of them is stated, and a name that SPDX lacks may be the maker's own
    word for a licence of its own. The GPL's text is part of the LGPL 3.0.
    """
    title = _unstated(found)
    return title if title and all(_clearly_not(_plain(name), title) for name in _stated(found)) else ""


def _unstated(found: Found) -> str:
    """Returns the licence that the text is by its title where it holds none that is stated, or ""."""
    stated = _stated(found)
    if not found.titles or not all(_IDENTIFIER.fullmatch(_plain(name)) for name in stated):
        return ""
    if any(_covers(name, _own_name(title)) for name in stated for title in found.titles):
        return ""
    return found.titles[0]


def _stated(found: Found) -> set[str]:
    return {name for way in _ways(found.licence) for name in way}


def contradictions(found: Found) -> list[str]:
    """Returns how the profile differs about the licence from the source, and from the text that comes with it."""
    title = another_text(found)
    text = f"the profile says {found.licence}, the text that comes with it is {title}" if title else ""
    return [line for line in (contradiction(found), text) if line]


def issues(found: Iterable[Found], rules: LicenceRules) -> list[str]:
    """Returns a line for everything that the rules refuse; without rules nothing is refused."""
    if rules.allow is None and not rules.deny:
        return []
    lines = []
    for item in found:
        if item.part not in _OWN:
            stated = [item.licence] if item.licence else item.declared.split(BOTH)
            reasons = [*(refused(licence, rules) for licence in stated), contradiction(item)]
            reasons += [_refused_by_text(item, rules)]
            lines += [f"{item.source}: {reason}" for reason in reasons if reason]
    return lines


def _refused_by_text(found: Found, rules: LicenceRules) -> str:
    """Returns why the text is refused, or ""; what is denied stays so under a name of the profile's own."""
    title = another_text(found)
    reason = refused(title, rules) if title else ""
    if not title and (own := _unstated(found)) and _is_denied(own, rules):
        reason = f"{own} is denied"
    return f"{reason}, by its text" if reason else ""


def require(found: Sequence[Found], rules: LicenceRules) -> None:
    """Refuses sources whose licence must not go into a bundle; raises BadInputs with all of them."""
    if lines := issues(found, rules):
        raise BadInputs(
            "the licences of the sources",
            tuple(dict.fromkeys(lines)),
            "take the source out, state its licence in the profile, or change [licences]",
        )


def _judged(names: Sequence[str], rules: LicenceRules) -> str:
    """Judges licences that hold together; returns why not, or ""."""
    for name in names:
        if _is_denied(name, rules):
            return f"{name} is denied"
    for name in names:
        if rules.allow is not None and not any(_allows(pattern, name) for pattern in rules.allow):
            return f"{name} is not allowed"
    return ""


def _unreadable(text: str, rules: LicenceRules) -> str:
    """Returns why a text that is no expression is refused, as it is under any rules."""
    shown = " ".join(text.split())
    if denied := [word for word in _IDENTIFIER.findall(text) if _is_denied(word, rules)]:
        return f"{denied[0]} is denied, and stands in {shown!r}"
    if rules.allow is None:
        return f"{shown!r} is no SPDX expression, so nobody can tell that it holds nothing that is denied"
    return f"it is no SPDX expression: {shown} is not allowed"


def _is_denied(name: str, rules: LicenceRules) -> bool:
    return any(_denies(pattern, part) for pattern in rules.deny for part in name.split(" WITH "))


def _denies(pattern: str, name: str) -> bool:
    """Whether a rule denies a licence: `GPL-3.0`, its `-only`, `-or-later` and `+`, and another spelling (`gplv3`)."""
    bare, wanted = name.casefold(), pattern.casefold()
    if fnmatchcase(bare, wanted) or fnmatchcase(_LATER.sub("", bare), wanted):
        return True
    if _canonical(wanted).casefold() == bare:
        return True
    return _is_unknown(name) and fnmatchcase(_squeezed(bare), _squeezed(wanted))


def _allows(pattern: str, name: str) -> bool:
    """Whether a rule allows a licence; one without `WITH` covers SPDX's exceptions too, which only add permissions."""
    licence, _, exception = name.partition(" WITH ")
    if exception and not _only_adds(exception):
        return False
    bare, wanted = licence.casefold(), pattern.casefold()
    return fnmatchcase(bare, wanted) or _canonical(wanted).casefold() == bare


def _only_adds(exception: str) -> bool:
    """Whether it is an exception of SPDX's own list; others, as the Commons Clause, may take permissions away."""
    known = _spdx().known_symbols.get(exception)
    return known is not None and bool(known.is_exception) and not exception.startswith("LicenseRef-")


def _canonical(pattern: str) -> str:
    """Returns the identifier that SPDX has now for one that it had (`GPL-3.0`); a family stays as it is."""
    with suppress(*_UNREADABLE):
        return str(_spdx().parse(pattern).key)
    return pattern


def _is_unknown(name: str) -> bool:
    return name not in _spdx().known_symbols


def _squeezed(name: str) -> str:
    return re.sub(r"[.]0(?![0-9])|[-.]|v(?=[0-9])", "", name)


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
        return [[f"{_identifier(node.license_symbol)} WITH {_identifier(node.exception_symbol)}"]]
    return [[_identifier(node)]]


def _identifier(symbol: Any) -> str:
    """The parser takes several words, and letters of any script, for one name that it does not know."""
    name = str(symbol.key)
    if not _IDENTIFIER.fullmatch(name):
        raise ExpressionError(f"{name!r} is no identifier")
    return name


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
    return [{_own_name(name) for name in way} for way in found]


def _covers(stated: str, title: str) -> bool:
    """Whether a text of that title may be the stated licence's: a later version of it, or one that only adds to it.

    `MPL-2.0-no-copyleft-exception` has the text of the MPL-2.0; under `GPL-2.0-or-later` that of the GPL-3.0 may lie.
    """
    plain = _plain(stated)
    for name in (plain, plain.removeprefix("l")):
        if f"{name}-".startswith(f"{title}-"):
            return True
        family, _, version = name.rpartition("-")
        if _later_too(stated) and title.rpartition("-")[0] == family and title.rpartition("-")[2] >= version:
            return True
    return False


def _later_too(name: str) -> bool:
    return name.partition(" with ")[0].endswith(("+", "-or-later"))


def _clearly_not(plain: str, title: str) -> bool:
    """Whether a stated name cannot be somebody's word for the licence of that title."""
    if title.startswith("LicenseRef-"):  # SPDX has licences whose text is a "... License Agreement", too
        return not _is_unknown(_canonical(plain)) and can_be_told(plain)
    if not _is_unknown(_canonical(plain)) or can_be_told(plain):
        return True
    short = re.escape(re.sub(r"licen[cs]e$", "", _squeezed(plain)))
    return not _is_unknown(_canonical(title)) and not re.fullmatch(rf"{short}[0-9]*(clause)?", _squeezed(_plain(title)))


def _plain(name: str) -> str:
    """A licence without its exception, and without saying which versions of it hold."""
    return _LATER.sub("", name.casefold().partition(" with ")[0])


def _own_name(name: str) -> str:
    """A name that SPDX lacks is one with `LicenseRef-` and without; `LicenseRef-MIT` is not MIT."""
    bare = name.casefold().removeprefix("licenseref-")
    return bare if _is_unknown(_canonical(bare)) else name.casefold()


@cache
def _spdx() -> Licensing:
    return get_spdx_licensing()
