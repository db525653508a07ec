"""Which licence a text is, where its title line says it beyond doubt. Pure.

A title is a line of its own, or two lines that follow each other; a licence that is only spoken of is none. The words
are those of the licences as their stewards publish them (SPDX licence list, `text`).
"""

from __future__ import annotations

import re
from itertools import pairwise

READ_BYTES = 1 << 20
_LINE_CHARS = 200
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


def titles(text: str) -> tuple[str, ...]:
    """Returns the licences whose titles stand in a text, in order, each once.

    A maker's own licence is `LicenseRef-` and its title. Of the GNU licences the text does not say whether later
    versions hold, too: they are named without that.

    Args:
        text: Of a licence; what is behind `READ_BYTES` need not be in it.
    """
    lines = [line.strip(_DECORATION) for line in text.splitlines()]
    lines = [" ".join(line.split()) for line in lines if line and len(line) <= _LINE_CHARS]
    found = [_title(line, after) for line, after in pairwise([*lines, ""])]
    if lines and not found[0] and _is_own(lines[0]):
        found[0] = "LicenseRef-" + re.sub(r"[^A-Za-z0-9.]+", "-", lines[0])
    return tuple(dict.fromkeys(name for name in found if name))


def _title(line: str, after: str) -> str:
    for words in (line.casefold(), f"{line} {after}".casefold()):
        for pattern, name in _KNOWN:
            if match := pattern.fullmatch(words):
                return name.format(*match.groups())
    return ""


def _is_own(line: str) -> bool:
    return line.isascii() and all(word[0].isupper() for word in line.split()) and _OWN.fullmatch(line) is not None
