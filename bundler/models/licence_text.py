"""Which licence a text is, where its title line says it beyond doubt. Pure.

A title is a line of its own, or two lines that follow each other; a licence that is only spoken of is none. It stands
at the head: many licences (MIT, BSD, ISC) are printed without one, above the titles of what is bundled with them. The
words are those of the licences as their stewards publish them (SPDX licence list, `text`).
"""

from __future__ import annotations

import re
from itertools import pairwise

READ_BYTES = 1 << 20
_LINE_CHARS = 200
_LONG = "..."  # in place of a longer line, which is no title, and under which there is none
_DECORATION = " \t#*=_-\ufeff"
_DATE = r"(?:,? [a-z]+ (?:[0-9]{1,2}, )?[0-9]{4}|,? [0-9]{1,2} [a-z]+ [0-9]{4})?"
_TITLES = (
    (rf"apache license,? version 2\.0{_DATE}", "Apache-2.0"),
    (r"(?:the )?mit license(?: \(mit\))?", "MIT"),
    (rf"gnu general public license,? version ([23])(?:\.0)?{_DATE}", "GPL-{}.0"),
    (rf"gnu lesser general public license,? version 2\.1{_DATE}", "LGPL-2.1"),
    (rf"gnu lesser general public license,? version 3(?:\.0)?{_DATE}", "LGPL-3.0"),
    (rf"gnu affero general public license,? version 3(?:\.0)?{_DATE}", "AGPL-3.0"),
    (r"(?:the )?bsd ([23])-clause license", "BSD-{}-Clause"),
    (r"mozilla public license,? version 2\.0", "MPL-2.0"),
    (r"(?:creative commons )?attribution 4\.0 international(?: public license)?", "CC-BY-4.0"),
    (r"(?:creative commons )?attribution-noncommercial 4\.0 international(?: public license)?", "CC-BY-NC-4.0"),
    (r"(?:creative commons )?attribution-sharealike 4\.0 international(?: public license)?", "CC-BY-SA-4.0"),
    (
        r"(?:creative commons )?attribution-noncommercial-sharealike 4\.0 international(?: public license)?",
        "CC-BY-NC-SA-4.0",
    ),
    (
        r"(?:creative commons )?attribution-noncommercial-noderivatives 4\.0 international(?: public license)?",
        "CC-BY-NC-ND-4.0",
    ),
    (r"(?:meta )?llama ([0-9](?:\.[0-9])?) community license agreement", "llama{}"),
    (r"gemma terms of use", "gemma"),
)
_KNOWN = tuple((re.compile(pattern), name) for pattern, name in _TITLES)
# "Tongyi Qianwen LICENSE AGREEMENT": a maker's own licence, which is none of the above; only as the first line.
_OWN = re.compile(r"(?:[A-Z0-9][A-Za-z0-9.-]* ){1,6}licen[cs]e agreement", re.IGNORECASE)
# What stands above a title. Under anything else a title may be that of a part, and what is above it the licence.
_ABOVE = re.compile(r"(?:copyright\b|\(c\)|\u00a9|all rights reserved\b|spdx-).*", re.IGNORECASE)
_NEXT = re.compile(r"^--- .*$", re.MULTILINE)  # `sources.wheel_archive` writes it above each text of a wheel
# How licences begin that are mostly printed without a title.
_OPENINGS = (
    ("permission is hereby granted, free of charge, to any person obtaining", ("MIT",)),
    ("redistribution and use in source and binary forms", ("BSD-2-Clause", "BSD-3-Clause")),
    ("permission to use, copy, modify, and", ("ISC", "0BSD")),
    ("without any express or implied warranty. in no event will the authors be held liable", ("Zlib",)),
)


def titles(text: str) -> tuple[str, ...]:
    """Returns the licences of a text that says by its title which one it is: the first, and all that stand under it.

    Without a title at its head a text is none of them, whatever stands further down. Several texts, each below a line
    `--- NAME`, must all have one. A maker's own licence is `LicenseRef-` and its title. Of the GNU licences the text
    does not say whether later versions hold, too: they are named without that.

    Args:
        text: Of a licence, whole: what is not seen may be what is stated.
    """
    found = [_of_one(part) for part in _NEXT.split(text) if part.strip()]
    return tuple(dict.fromkeys(name for names in found for name in names)) if all(found) else ()


def can_be_told(name: str) -> bool:
    """Whether a text of this licence says so by a title that is known here; a maker's own is known by its name alone.

    Args:
        name: An identifier, in any case of letters and without the versions that hold, such as `gpl-3.0`.
    """
    return any(re.fullmatch(re.escape(known).replace(r"\{\}", "[0-9.]+"), name, re.IGNORECASE) for _, known in _TITLES)


def _of_one(text: str) -> list[str]:
    """Returns the licence of a text by the title at its head, and what else it holds; nothing without that title."""
    lines = [line.strip(_DECORATION) for line in text.splitlines()]
    lines = [" ".join(line.split()) if len(line) <= _LINE_CHARS else _LONG for line in lines if line]
    found = [_title(line, after) for line, after in pairwise([*lines, ""])]
    if lines and not found[0] and _is_own(lines[0]):
        found[0] = "LicenseRef-" + re.sub(r"[^A-Za-z0-9.]+", "-", lines[0])
    head = next((name for line, name in zip(lines, found, strict=True) if name or not _ABOVE.fullmatch(line)), "")
    named = [name for name in found if name]
    return named + _untitled(text, named) if head else []


def _untitled(text: str, named: list[str]) -> list[str]:
    """Returns what a text may hold that stands under no title of its own; `named` has one name for each title."""
    words = " ".join(text.casefold().split())
    more = [names for opening, names in _OPENINGS if words.count(opening) > sum(name in names for name in named)]
    return [name for names in more for name in names]


def _title(line: str, after: str) -> str:
    for words in (line.casefold(), f"{line} {after}".casefold()):
        for pattern, name in _KNOWN:
            if match := pattern.fullmatch(words):
                return name.format(*match.groups())
    return ""


def _is_own(line: str) -> bool:
    return line.isascii() and all(word[0].isupper() for word in line.split()) and _OWN.fullmatch(line) is not None
