"""The licence gate: SPDX expressions against the lists of a profile, and what a source declares itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bundler.format.errors import BadInputs
from bundler.format.index import Asset
from bundler.plan import Found
from bundler.profile.model import LicenceRules
from bundler.provenance.licences import (
    UNKNOWN,
    another_text,
    contradiction,
    contradictions,
    issues,
    refused,
    require,
    travels_no_more,
)

MIT = LicenceRules(("MIT", "Apache-2.0"))
NO_GPL = LicenceRules(None, ("GPL-*", "AGPL-*"))
# 2^28 ways to fulfil it in less than 500 characters.
MANY = " AND ".join(["(MIT OR ISC)"] * 28)


@pytest.mark.parametrize(
    ("licence", "rules", "reason"),
    [
        ("MIT", MIT, ""),
        ("mit", MIT, ""),
        ("MIT OR GPL-3.0-only", MIT, ""),
        ("MIT AND Apache-2.0", MIT, ""),
        ("MIT AND GPL-3.0-only", MIT, "GPL-3.0-only is not allowed"),
        ("(MIT OR GPL-2.0-only) AND (Apache-2.0 OR BSD-3-Clause)", MIT, ""),
        ("BSD-3-Clause", MIT, "BSD-3-Clause is not allowed"),
        ("do as you please", MIT, "do as you please is not allowed"),
        ("(MIT", MIT, "(MIT is not allowed"),
        ("()", MIT, "() is not allowed"),
        ("(OR MIT OR ISC", MIT, "(OR MIT OR ISC is not allowed"),
        ("", MIT, UNKNOWN),
        ("", NO_GPL, UNKNOWN),
        (" ", NO_GPL, UNKNOWN),
        ("", LicenceRules(("*",)), UNKNOWN),
        ("", LicenceRules(), ""),
        ("GPL-3.0-or-later", NO_GPL, "GPL-3.0-or-later is denied"),
        ("GPL-2.0", NO_GPL, "GPL-2.0-only is denied"),
        ("GPL-2.0-only WITH Classpath-exception-2.0", NO_GPL, "is denied"),
        ("GPL-3.0-only OR MIT", NO_GPL, ""),
        ("LGPL-2.1-only", NO_GPL, ""),
        ("MIT", LicenceRules(("*",), ("MIT",)), "MIT is denied"),
        ("llama3.1", LicenceRules(("llama*",)), ""),
        ("MIT", LicenceRules(), ""),
        ("MIT OR " * 2_000 + "MIT", LicenceRules(("Apache-2.0",)), "is not allowed"),
        ("MIT AND " * 2_000 + "GPL-3.0-only", NO_GPL, "is not allowed"),
        (MANY, LicenceRules(("MIT", "ISC")), "is not allowed"),
    ],
)
def test_an_expression_is_judged_as_such(licence: str, rules: LicenceRules, reason: str) -> None:
    """One choice of an OR is enough, all of an AND are needed; a deny list wins; unknown text must be named."""
    found = refused(licence, rules)
    assert found.endswith(reason)
    assert bool(found) == bool(reason)


FAMILIES = LicenceRules(("BSD-*", "MIT*", "Apache-*"), ())


@pytest.mark.parametrize(
    "text",
    [
        "BSD-3-Clause, GPL-3.0",
        "MIT/GPL-3.0",
        "MIT|GPL-3.0",
        "MIT;GPL-3.0",
        "MIT\nGPL-3.0",
        "BSD-3-Clause GPL-3.0",
        "BSD-2-Clause AND",
        "BSD-like but not for commerce",
        "(MIT",
        "\u041cIT",  # a Cyrillic letter
        "MIT\u200b",
        "Apache-2.0 WITH Commons-Clause",
        "Apache-2.0 WITH LicenseRef-scancode-commons-clause",
        "MIT WITH GPL-3.0-only",
        "other",
        "unknown",
        "NOASSERTION",
    ],
)
def test_a_family_covers_no_text_that_only_begins_like_it(text: str) -> None:
    """What is no expression, and what takes permissions away, is not allowed by its first letters."""
    assert refused(text, FAMILIES).endswith("is not allowed")


@pytest.mark.parametrize("text", ["Apache-2.0 WITH LLVM-exception", "apache-2.0", "BSD-3-Clause", "MIT AND MIT-0"])
def test_a_family_covers_its_licences(text: str) -> None:
    """With an exception of SPDX's own list, which only adds permissions."""
    assert refused(text, FAMILIES) == ""


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("(GPL-3.0-only", "GPL-*"),
        ("MIT/GPL-3.0", "GPL-*"),
        ("MIT, GPLv3", "GPL-*"),
        ("GPL\u20113.0-only", "GPL-*"),
        ("gplv3", "GPL-*"),
        ("gplv3", "GPL-3.0"),
        ("AGPL-3.0-or-later", "AGPL-3.0"),
        ("GPL-3.0-only", "GPL-3.0"),
        ("gpl-3.0", "GPL-3.0"),
        ("Apache-2.0+", "Apache-2.0"),
        ("MIT AND Apache-2.0 WITH Commons-Clause", "Commons-Clause"),
    ],
)
def test_what_is_denied_is_found_however_it_is_written(text: str, rule: str) -> None:
    """In a text that is no expression, by the identifier that SPDX had once, with `or later`, as others spell it."""
    assert "is denied" in refused(text, LicenceRules(None, (rule,)))
    assert "is denied" in refused(text, LicenceRules(("*",), (rule,)))


@pytest.mark.parametrize("text", ["GNU General Public License v3 (GNU)", "\u041cIT", "MIT, ISC"])
def test_what_cannot_be_read_may_be_what_is_denied(text: str) -> None:
    """Nobody can tell of a text that it holds nothing that is denied; without rules nobody asks."""
    assert "no SPDX expression" in refused(text, NO_GPL)
    assert refused(text, LicenceRules()) == ""


def test_the_identifier_that_spdx_had_once_is_allowed_by_its_own_name() -> None:
    """A profile that allows what a hub's card says word for word gets it."""
    assert refused("gpl-3.0", LicenceRules(("GPL-3.0",))) == ""
    assert refused("GPL-3.0-or-later", LicenceRules(("GPL-3.0",))) == "GPL-3.0-or-later is not allowed"


def test_card_and_file_are_judged_each_where_the_profile_states_nothing() -> None:
    """Where they differ both must be allowed, and the one that is not is named."""
    one = Found("model", "hub:a/one/f", 1, "", "", declared="MIT + Apache-2.0")
    other = Found("model", "hub:a/two/f", 1, "", "", declared="MIT + GPL-3.0")
    assert issues([one, other], MIT) == ["hub:a/two/f: GPL-3.0-only is not allowed"]
    assert issues([other], NO_GPL) == ["hub:a/two/f: GPL-3.0-only is denied"]


@pytest.mark.parametrize(
    ("stated", "declared", "differ"),
    [
        ("Apache-2.0", "", False),
        ("Apache-2.0", "apache-2.0", False),
        ("Apache-2.0", "Apache Software License", False),
        ("Apache-2.0", "Apache-2.0 + MIT", True),
        ("Apache-2.0", "MIT", True),
        ("Apache-2.0 AND MIT", "MIT", False),
        ("MIT OR GPL-3.0-only", "GPL-3.0-only", True),
        ("MIT", "MIT OR GPL-3.0-only", False),
        ("LicenseRef-llama3.1", "llama3.1", False),
        ("MIT", "other", True),
        ("MIT", "LicenseRef-MIT", True),
        ("MIT", "MIT, GPL-3.0", True),
        ("MIT", MANY, True),
    ],
)
def test_a_source_may_contradict_the_profile(stated: str, declared: str, *, differ: bool) -> None:
    """What the profile states must cover what the source declares."""
    assert bool(contradiction(Found("model", "hub:a/b/c", 1, "", stated, declared=declared))) is differ


def test_all_that_is_refused_is_told_at_once() -> None:
    """Each source with its reasons; the customer's own content needs no licence."""
    found = [
        Found("model", "hub:a/one/f", 1, "", "GPL-3.0-only", declared="MIT"),
        Found("embedding", "hub:a/two/f", 1, "", "", declared="AGPL-3.0-only"),
        Found("faq", "file:faq.jsonl", 1, "", ""),
    ]
    with pytest.raises(BadInputs) as caught:
        require(found, MIT)
    assert caught.value.issues == (
        "hub:a/one/f: GPL-3.0-only is not allowed",
        "hub:a/one/f: the profile says GPL-3.0-only, the source declares MIT",
        "hub:a/two/f: AGPL-3.0-only is not allowed",
    )
    assert issues(found, LicenceRules()) == []


@pytest.mark.parametrize("rules", [MIT, NO_GPL])
def test_an_unknown_licence_is_refused_under_any_rules(rules: LicenceRules) -> None:
    """An image or a model of which nobody says a licence may be what is denied; stating one is the way out."""
    silent = Found("image", "registry:host/app@sha256:1", 1, "", "")
    assert issues([silent], rules) == [f"registry:host/app@sha256:1: {UNKNOWN}"]
    assert issues([replace(silent, licence="MIT")], rules) == []
    assert issues([replace(silent, part="documents")], rules) == []


@pytest.mark.parametrize(
    ("kind", "licence", "gone"),
    [("image", "", True), ("gguf", "", True), ("gguf", "MIT", False), ("faq", "", False), ("licence", "", False)],
)
def test_an_earlier_asset_without_a_licence_travels_no_more(kind: str, licence: str, *, gone: bool) -> None:
    """What came from somebody else needs a known licence under the gate; the customer's own content needs none."""
    asset = Asset("a", kind, 1, "", licence, "registry:host/app", ())
    assert travels_no_more(NO_GPL, asset) is gone
    assert not travels_no_more(LicenceRules(), asset)


@pytest.mark.parametrize(
    ("stated", "text", "told"),
    [
        ("Apache-2.0", ("GPL-3.0",), "GPL-3.0"),
        ("Apache-2.0", ("llama3.1",), "llama3.1"),
        ("MIT", ("LicenseRef-Tongyi-Qianwen-LICENSE-AGREEMENT",), "LicenseRef-Tongyi-Qianwen-LICENSE-AGREEMENT"),
        ("llama3.2", ("llama3.1",), "llama3.1"),
        ("CC-BY-4.0", ("CC-BY-NC-4.0",), "CC-BY-NC-4.0"),
        ("Apache-2.0", ("Apache-2.0",), ""),
        ("Apache-2.0", (), ""),
        ("Apache-2.0", ("MIT", "Apache-2.0"), ""),
        ("MIT AND Apache-2.0", ("Apache-2.0",), ""),
        ("Apache-2.0 WITH LLVM-exception", ("Apache-2.0",), ""),
        ("GPL-3.0-or-later", ("GPL-3.0",), ""),
        ("gpl-3.0", ("GPL-3.0",), ""),
        ("LGPL-3.0-only", ("GPL-3.0",), ""),
        ("AGPL-3.0-only", ("GPL-3.0",), "GPL-3.0"),
        ("LicenseRef-llama3.1", ("llama3.1",), ""),
        ("LicenseRef-llama3.2", ("llama3.1",), "llama3.1"),
        ("LicenseRef-Llama-3.1-Community", ("llama3.1",), ""),
        ("LicenseRef-Gemma-Terms", ("gemma",), ""),
        ("CNRI-Python", ("LicenseRef-CNRI-OPEN-SOURCE-LICENSE-AGREEMENT",), ""),
        ("CNRI-Python", ("llama3.1",), "llama3.1"),
        ("MPL-2.0-no-copyleft-exception", ("MPL-2.0",), ""),
        ("GPL-2.0-or-later", ("GPL-3.0",), ""),
        ("LGPL-2.1+", ("LGPL-3.0",), ""),
        ("GPL-2.0-only", ("GPL-3.0",), "GPL-3.0"),
        ("GPL-3.0-or-later", ("GPL-2.0",), "GPL-2.0"),
        ("Apache2", ("Apache-2.0",), ""),
        ("GPLv3", ("GPL-3.0",), ""),
        ("BSD", ("BSD-3-Clause",), ""),
        ("LicenseRef-MIT-License", ("MIT",), ""),
        ("CC-BY", ("CC-BY-NC-4.0",), "CC-BY-NC-4.0"),
        ("LicenseRef-acme", ("GPL-3.0",), "GPL-3.0"),
        ("tongyi-qianwen", ("LicenseRef-Tongyi-Qianwen-LICENSE-AGREEMENT",), ""),
        ("Apache License 2.0", ("Apache-2.0",), ""),
        ("", ("GPL-3.0",), ""),
    ],
)
def test_a_text_may_be_another_licence_than_the_stated_one(stated: str, text: tuple[str, ...], told: str) -> None:
    """Only where it is clear: not of several, not of another word for it, and not of what is no expression."""
    assert another_text(Found("model", "hub:a/b/c", 1, "", stated, titles=text)) == told


@pytest.mark.parametrize(
    ("stated", "titles", "deny", "told"),
    [
        ("LicenseRef-mine", ("llama3.1",), "llama*", ["hub:a/b/c: llama3.1 is denied, by its text"]),
        ("LicenseRef-mine", ("llama3.1",), "gemma", []),
        ("LicenseRef-llama3.1", ("llama3.1",), "gemma", []),
        ("LicenseRef-mine", (), "*", ["hub:a/b/c: LicenseRef-mine is denied"]),
        ("MIT", ("MIT", "GPL-3.0"), "GPL-*", []),
    ],
)
def test_a_denied_text_stays_so_under_a_name_of_ones_own(
    stated: str, titles: tuple[str, ...], deny: str, told: list[str]
) -> None:
    """What the profile calls it may be its own word, and is no contradiction; the deny list judges the text."""
    found = Found("model", "hub:a/b/c", 1, "", stated, titles=titles)
    assert issues([found], LicenceRules(None, (deny,))) == told
    assert contradictions(found) == []


def test_a_text_is_refused_only_where_its_licence_is() -> None:
    """The gate judges what the text says; without it the difference is told and nothing more."""
    found = Found("model", "hub:a/b/c", 1, "", "Apache-2.0", titles=("GPL-3.0",))
    assert issues([found], NO_GPL) == ["hub:a/b/c: GPL-3.0-only is denied, by its text"]
    assert issues([found], MIT) == ["hub:a/b/c: GPL-3.0-only is not allowed, by its text"]
    assert issues([replace(found, titles=("MIT",))], MIT) == []
    named = replace(found, licence="LicenseRef-Gemma-Terms", titles=("gemma",))
    assert issues([named], LicenceRules(("LicenseRef-Gemma-Terms",))) == []
    assert issues([found], LicenceRules()) == []
    assert contradictions(found) == ["the profile says Apache-2.0, the text that comes with it is GPL-3.0"]
