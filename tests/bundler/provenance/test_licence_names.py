"""A licence that SPDX does not know by that name is told, with the one that is likely meant."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from bundler.authoring.check import check_profile
from bundler.profile.read import parse_profile
from bundler.provenance.licence_names import licence_warnings, likely

PROFILE = (
    '[bundle]\nname = "p"\ntitle = "P"\n[[model]]\nname = "local"\nsource = "hub:a/b@main/m.gguf"\nlicence = "{}"\n'
)
LIST = "take one of https://spdx.org/licenses, or write LicenseRef-NAME for a licence that is not listed there"


def told(licence: str) -> list[str]:
    return licence_warnings(parse_profile(tomllib.loads(PROFILE.format(licence)), Path(), "p.toml", {}))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("Apache 2", "Apache-2.0"),
        ("Apache License, Version 2.0", "Apache-2.0"),
        ("MIT License", "MIT"),
        ("MITT", "MIT"),
        ("bsd-3", "BSD-3-Clause"),
        ("CC BY-NC 4.0", "CC-BY-NC-4.0"),
        ("GPLv2+", "GPL-2.0-or-later"),
        ("GPL v3", "GPL-3.0-only"),
        ("BSD", ""),
        ("Llama 3 Community License", ""),
        ("+", ""),
    ],
)
def test_the_likely_identifier_is_found(written: str, meant: str) -> None:
    """Spelling, words around it and a version that is short; where several are as likely, none is named."""
    assert likely(written) == meant


@pytest.mark.parametrize("licence", ["Apache-2.0", "mit", "Apache-2.0 OR MIT", "LicenseRef-acme", "GPL-3.0-only"])
def test_what_spdx_knows_is_no_warning(licence: str) -> None:
    """In any case of letters, as an expression, and as a name of one's own."""
    assert told(licence) == []


@pytest.mark.parametrize(
    ("licence", "way_out"),
    [
        ("Apache 2", "Apache-2.0 is likely meant"),
        ("Apache 2 OR MIT", "Apache-2.0 is likely meant"),
        ("Apache 2 or MIT", "Apache-2.0 is likely meant"),
        ("Apache-2.0 AND (MITT OR GPLv3)", "GPL-3.0-only or GPL-3.0-or-later, MIT is likely meant"),
        ("(MIT", "MIT is likely meant"),
        ("MIT AND", LIST),
        ("GPL-3.0-or-later AND", "GPL-3.0-or-later is likely meant"),
        ("MIT and (GPL-3.0-or-later", LIST),
        ("MIT OR OR Apache-2.0", LIST),
        ("()", LIST),
        ("gemma", LIST),
        ("x" * 600, LIST),
    ],
)
def test_a_licence_that_is_none_is_told_with_the_way_out(licence: str, way_out: str) -> None:
    """Each name of an expression is looked at; what is near to nothing gets the list."""
    assert told(licence) == [f"[[model]] local: {licence!r} is no SPDX expression: {way_out}"]


def test_profile_check_warns(tmp_path: Path) -> None:
    """It is a note: a licence of one's own may be named so, and [licences] decides what goes in."""
    (tmp_path / "p.toml").write_text(PROFILE.format("Apache 2"))
    found = check_profile(tmp_path / "p.toml")
    assert "[[model]] local: 'Apache 2' is no SPDX expression: Apache-2.0 is likely meant" in found.warnings
    assert found.issues == ()
