"""The licence gate: SPDX expressions against the lists of a profile, and what a source declares itself."""

from __future__ import annotations

import pytest

from bundler.format.errors import BadInputs
from bundler.plan import Found
from bundler.profile.model import LicenceRules
from bundler.provenance.licences import contradiction, issues, refused, require

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
        ("", MIT, "no licence is known"),
        ("", NO_GPL, ""),
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
