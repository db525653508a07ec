"""What the answer cache may keep, for which request, and when it may give it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.gateway import caching
from appliance.gateway.caching import Kept, Wishes
from appliance.gateway.call import CHAT, TEXT, Answer, Call, Segment, Told
from appliance.gateway.options import needs_of
from appliance.gateway.validate import Said, of_body
from bundler.format.service import CacheSpec, OutputSpec, RouteSpec

ROUTE = RouteSpec("desk", ("alpha", "cache"), cache=CacheSpec(keep_s=1_000, fresh_s=100))
BODY: dict[str, Any] = {"model": "desk", "messages": [{"role": "user", "content": "hello"}], "seed": 1}
KEPT = Kept("forty-two", "large", "alpha", 5)


def call(body: dict[str, Any] | None = None, **more: Any) -> Call:
    body = BODY if body is None else body
    fields: dict[str, Any] = {"wire": CHAT, "tenant": "t", "route": ROUTE, "model": "desk"} | more
    return Call(body=body, question="", stream=False, needs=needs_of(body), ignorable=(), deadline_s=0.0, **fields)


def said(finish: str | None = "stop", content: Any = "forty-two", **message: Any) -> Said:
    choice = {"index": 0, "finish_reason": finish, "message": {"content": content, **message}}
    return of_body({"model": "large", "choices": [choice]})


def answer(told: Told | None = None, kind: str = "upstream") -> Answer:
    return Answer("alpha", kind, "alpha", told=told or Told())


def test_a_whole_answer_of_a_provider_is_kept() -> None:
    """Its text, its model, who served it and when it was made."""
    assert caching.kept_of(said(), answer(), 5) == KEPT
    assert caching.decode(caching.encode(KEPT)) == KEPT


@pytest.mark.parametrize(
    "found",
    [
        said("length"),
        said("content_filter"),
        said("tool_calls", None, tool_calls=[{"id": "1"}]),
        said("stop", "x", tool_calls=[{"id": "1"}]),
        said("stop", None, refusal="no"),
        said("stop", "some", refusal="no"),
        said(None),
        said("stop", " \n"),
        said("stop", "x" * (caching.TEXT_CHARS_MOST + 1)),
        Said(),
        of_body({"choices": [{"index": n, "finish_reason": "stop", "message": {"content": "x"}} for n in (0, 1)]}),
    ],
)
def test_less_or_other_than_one_whole_text_is_not_kept(found: Said) -> None:
    """Cut short by a limit, filtered, declined, calling tools, empty, endless, or without an end."""
    assert caching.kept_of(found, answer(), 5) is None


@pytest.mark.parametrize(
    "told",
    [
        Told(segments=[Segment("alpha", "alpha", "large", 1, None)]),
        Told(damaged_chunks=1),
        Told(dropped_turns=2),
        Told(ticket="H-1"),
        Told(cached={"age_s": 1}),
        Told(upstream={"mode": "LOCAL", "rung": "small"}),
        Told(upstream={"mode": "NORMAL", "rung": "cache"}),
    ],
)
def test_an_answer_that_is_not_whole_in_its_making_is_not_kept(told: Told) -> None:
    """Stitched of two rungs, damaged, made without all turns, or by another box that was not well."""
    assert caching.kept_of(said(), answer(told), 5) is None
    assert caching.kept_of(said(), answer(Told(upstream={"mode": "WATCH", "rung": "alpha"})), 5) == KEPT


@pytest.mark.parametrize("kind", ["model", "faq", "documents", "message", "cache"])
def test_what_the_box_itself_says_is_not_kept(kind: str) -> None:
    """It can say it again, and better than an old answer."""
    assert caching.kept_of(said(), answer(kind=kind), 5) is None


@pytest.mark.parametrize(
    "changed",
    [
        call(BODY | {"messages": [{"role": "user", "content": "hello!"}]}),
        call(BODY | {"messages": [{"role": "system", "content": "Be brief."}, *BODY["messages"]]}),
        call(BODY | {"tools": []}),
        call(BODY | {"response_format": {"type": "json_object"}}),
        call(BODY | {"temperature": 0.1}),
        call(BODY | {"top_p": 0.1}),
        call(BODY | {"max_tokens": 5}),
        call(BODY | {"seed": 2}),
        call(BODY | {"seed": True}),
        call(BODY | {"n": 1}),
        call(BODY | {"user": "somebody"}),
        call(BODY | {"what OpenAI adds next": 1}),
        call(wire=TEXT),
        call(model="auto"),
        call(regions=("eu",)),
        call(route=replace(ROUTE, rungs=("beta", "cache"))),
        call(route=replace(ROUTE, output=OutputSpec("", ("en",), (), own_model=False))),
        call(route=replace(ROUTE, too_long="drop")),
        call(route=replace(ROUTE, regions=("eu",))),
    ],
)
def test_whatever_shapes_an_answer_makes_another_request(changed: Call) -> None:
    """One difference in what is asked, of whom, or how it is checked, and the answer is another's."""
    assert caching.request_of(changed, "v1") != caching.request_of(call(), "v1")


def test_another_version_makes_another_request() -> None:
    """Prompts, redaction, providers and knowledge come with the version."""
    assert caching.request_of(call(), "v1") != caching.request_of(call(), "v2")


def test_how_an_answer_travels_makes_no_other_request() -> None:
    """A stream and a whole answer are one answer; the order of keys and the caller's notes say nothing either."""
    travelling = {"stream": True, "stream_options": {"include_usage": True}, "metadata": {"a": "b"}, "store": True}
    other = {**travelling, "service_tier": "flex", **dict(reversed(BODY.items()))}
    assert caching.request_of(call(other, tenant="t"), "v1") == caching.request_of(call(), "v1")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), _JSON, max_size=4), st.dictionaries(st.text(), _JSON, max_size=4))
def test_equal_bytes_mean_equal_requests(one: dict[str, Any], other: dict[str, Any]) -> None:
    """No two bodies that differ beyond how they travel have the same bytes."""

    def shaping(body: dict[str, Any]) -> str:
        return repr(sorted((name, repr(_sorted(value))) for name, value in body.items() if name not in caching.TRAVEL))

    equal = caching.request_of(call(one), "v") == caching.request_of(call(other), "v")
    assert equal == (shaping(one) == shaping(other))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    "body",
    [
        {"tools": [{"type": "function"}]},
        {"n": 2},
        {"logprobs": True},
        {"modalities": ["audio"]},
        {"web_search_options": {}},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"continue_final_message": True},
    ],
)
def test_requests_for_more_than_a_text_are_never_looked_up(body: dict[str, Any]) -> None:
    """Tools, several answers, log probabilities, the web, and answers that have begun."""
    assert not caching.applies(call(BODY | body))
    assert caching.applies(call())
    assert not caching.applies(call(route=replace(ROUTE, cache=None)))


@pytest.mark.parametrize(
    ("header", "body", "wanted"),
    [
        ("", {}, Wishes()),
        ("no-cache", {}, Wishes(give=False)),
        ("No-Store", {}, Wishes(keep=False, give=False)),
        ("max-age=60, no-transform", {}, Wishes(most_age_s=60)),
        ('max-age="60",max-age=50', {}, Wishes(most_age_s=50)),
        ("max-age=0", {}, Wishes(most_age_s=0)),
        ("max-age=soon, x", {}, Wishes()),
        ("", {"store": False}, Wishes(keep=False, give=False)),
        ("", {"store": True}, Wishes()),
        ("", {"store": None}, Wishes()),
    ],
)
def test_a_caller_may_say_no(header: str, body: dict[str, Any], wanted: Wishes) -> None:
    """`Cache-Control` of HTTP and `store: false` of OpenAI; what is not known is passed over."""
    assert caching.wishes_of(call(BODY | body, cache_control=header)) == wanted


@pytest.mark.parametrize(
    ("made_s", "wishes", "age_s", "fresh"),
    [
        (10_000, Wishes(), 0, True),
        (9_901, Wishes(), 99, True),
        (9_900, Wishes(), 100, False),
        (9_001, Wishes(), 999, False),
        (9_000, Wishes(), None, False),
        (9_900, Wishes(most_age_s=99), None, False),
        (9_900, Wishes(most_age_s=100), 100, False),
        (10_060, Wishes(), 0, True),
        (10_061, Wishes(), None, False),
    ],
)
def test_an_answer_is_given_by_its_age(made_s: int, wishes: Wishes, age_s: int | None, fresh: bool) -> None:
    """Fresh, stale, or too old; one from a clock that was ahead has no age that could be told."""
    found = caching.found(KEPT, made_s, 10_000.9, call(), wishes)
    assert (None if found is None else (found.age_s, found.fresh)) == (None if age_s is None else (age_s, fresh))


def test_the_length_of_what_is_kept_tells_little() -> None:
    """Answers of about one length have one length."""
    sizes = {len(caching.encode(replace_text(length))) for length in range(1_000, 1_050)}
    assert len(sizes) <= 3


def replace_text(length: int) -> Kept:
    return Kept("x" * length, KEPT.model, KEPT.served_by, KEPT.created)


def test_a_text_that_grows_too_long_takes_no_more_memory() -> None:
    """What cannot be kept any more is not put together either."""
    found = Said()
    for _ in range(30):
        if caching.may_grow(found):
            found.take({"choices": [{"index": 0, "delta": {"content": "x" * 50_000}}]})
    assert len(found.choices[0].text) == 250_000
    found.take({"choices": [{"index": 1, "delta": {"content": "x"}}]})
    assert not caching.may_grow(found)
