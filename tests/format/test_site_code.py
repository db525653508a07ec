"""The site code, as a person hands it over: alone, or as the card that it stands on."""

from __future__ import annotations

import pytest

from bundler.format.errors import WrongKey
from bundler.format.site import find_code, make_code, parse_code
from bundler.repository.cards import recovery_card, site_card

CODE = make_code(bytes(range(10)))
SITE = site_card("Northquay", "r" * 64, "bristol", CODE, "a" * 64)


@pytest.mark.parametrize(
    "text",
    [
        CODE,
        f"\n  {CODE.lower()}\r\n",
        SITE,
        SITE.replace("\n", "\r\n"),
        f"Dear colleague, here it is:\n{SITE}\nBye",
        f"Site code: {CODE}",
        recovery_card("Northquay", "r" * 64, CODE, "a" * 64),
    ],
)
def test_the_code_is_found(text: str) -> None:
    """Whatever stands around its line."""
    assert parse_code(find_code(text)) == parse_code(CODE)


@pytest.mark.parametrize("text", ["", "Dear colleague", SITE.replace(CODE, "1234-1234-1234-12345"), "Site code:"])
def test_without_a_code_it_is_refused(text: str) -> None:
    """With the hint of a mistyped one."""
    with pytest.raises(WrongKey):
        parse_code(find_code(text))
