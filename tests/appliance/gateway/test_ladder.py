"""Which rungs are tried: order, needs, availability and pinned names."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.gateway.call import Skip
from appliance.gateway.ladder import decide, order, pinned
from bundler.format.service import RUNG_KINDS, LadderSpec, RungSpec, UpstreamSpec

CLOUD = RungSpec("cloud", "upstream", "provider")
MODEL = RungSpec("local", "model", "small")
FAQ = RungSpec("faq", "faq", "helpdesk")
MESSAGE = RungSpec("message", "message", "")
RUNGS = (CLOUD, MODEL, FAQ, MESSAGE)
LADDER = LadderSpec(RUNGS, ("cloud", "local", "message"), ("faq", "message"), "", "", "")
UPSTREAM = UpstreamSpec("provider", "https://a.example/v1", "large", "", "", 1, 1, 1)


def test_every_rung_is_tried_in_order() -> None:
    """Nothing is unavailable, nothing is needed."""
    assert decide(RUNGS, {}).attempts == RUNGS
    assert decide(RUNGS, {}).skips == ()


def test_unavailable_rungs_are_skipped_with_their_reason() -> None:
    """The reason is handed on as it is."""
    plan = decide(RUNGS, {"cloud": "held", "faq": "missing"})
    assert plan.attempts == (MODEL, MESSAGE)
    assert plan.skips == (Skip("cloud", "held"), Skip("faq", "missing"))


def test_a_need_leaves_those_that_can() -> None:
    """A provider answers for itself, the local model has its list, fixed texts decline as incapable."""
    plan = decide(RUNGS, {}, frozenset({"tools", "n"}))
    assert plan.attempts == (CLOUD, MODEL)
    assert plan.skips[0] == Skip("faq", "it does not support n, tools", incapable=True)
    assert decide(RUNGS, {}, frozenset({"image_url"})).attempts == (CLOUD,)


def test_incapable_outweighs_unavailable() -> None:
    """A rung that could never serve is no reason to try again later."""
    assert decide((MODEL,), {"local": "loading"}, frozenset({"suffix"})).skips[0].incapable


@given(
    st.lists(st.sampled_from(RUNG_KINDS), max_size=8),
    st.sets(st.integers(0, 7)),
    st.frozensets(st.sampled_from(["tools", "n", "logprobs"])),
)
def test_every_rung_is_tried_or_skipped_and_order_is_kept(
    kinds: list[str], away: set[int], needs: frozenset[str]
) -> None:
    """Attempts and skips part the ladder."""
    rungs = [RungSpec(str(number), kind, "t") for number, kind in enumerate(kinds)]
    plan = decide(rungs, {str(number): "away" for number in away}, needs)
    tried, skipped = [rung.name for rung in plan.attempts], [skip.rung for skip in plan.skips]
    assert sorted([*tried, *skipped]) == [rung.name for rung in rungs]
    assert tried == sorted(tried)
    assert not set(tried) & {str(number) for number in away}


def test_auto_is_the_chat_ladder() -> None:
    """In the profile's order."""
    assert pinned(LADDER, [UPSTREAM], "auto") == order(LADDER, ("cloud", "local", "message"))


def test_a_name_pins_to_the_rungs_that_serve_it() -> None:
    """The rung's, the upstream's, the upstream's model's and the local model's name."""
    for name in ("cloud", "provider", "large"):
        assert pinned(LADDER, [UPSTREAM], name) == (CLOUD,)
    for name in ("local", "small"):
        assert pinned(LADDER, [UPSTREAM], name) == (MODEL,)


def test_a_model_that_several_serve_pins_to_all_of_them() -> None:
    """Another provider of the same model is no replacement by another model."""
    other = RungSpec("second", "upstream", "other")
    ladder = LadderSpec((*RUNGS, other), (), (), "", "", "")
    twin = UpstreamSpec("other", "https://b.example/v1", "large", "", "", 1, 1, 1)
    assert pinned(ladder, [UPSTREAM, twin], "large") == (CLOUD, other)


def test_what_nothing_serves_is_unknown() -> None:
    """An FAQ is no model; neither is a name that nobody has."""
    for name in ("faq", "helpdesk", "message", "gpt-9", ""):
        assert pinned(LADDER, [UPSTREAM], name) is None
