"""What the answer cache may keep, for which request, and when it may give it. Pure.

Rules:
1. The same request alone: every field of it counts but those that only say how the answer travels. Its tenant, its
   route with its rungs, checks and redaction, where its data may go, and the version of the box's content count too.
2. An answer of a provider alone. What the box itself says it can say again, and better than an old answer.
3. A whole answer alone: one plain text that ended by itself. One that a limit ended is half an answer to whoever gets
   it later; one that a filter ended, that declines or calls tools is none. Of two rungs stitched, damaged, made without
   all turns, or made by another box that was not well: neither.
4. It is given where the rungs above did not serve, with its age; before them only where the route says so and while it
   is fresh. The caller can say no (`Cache-Control: no-store, no-cache, max-age=N`, `store: false`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from appliance.gateway.call import Answer, Call, Told
from appliance.gateway.modes import NORMAL, WATCH
from appliance.gateway.validate import Choice, Said
from bundler.format.padding import padme
from bundler.format.service import CACHE

# How an answer travels, who pays, and notes of the caller: none of them changes what it says.
TRAVEL = frozenset({"stream", "stream_options", "store", "metadata", "service_tier"})
# Needs of a request whose answer may be one plain text; others are declined unasked.
KEEPS = frozenset({"response_format", "image_url", "logit_bias"})
TEXT_CHARS_MOST = 200_000
# A clock that was wrong when an answer came cannot say how old it is.
AHEAD_S = 60
UPSTREAM = "upstream"
_NO_STORE, _NO_CACHE = "no-store", "no-cache"
_MAX_AGE = re.compile(r"max-age=\"?([0-9]{1,9})\"?")


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """An answer as the cache keeps it.

    Attributes:
        text: All of it.
        model: The model that gave it, in its provider's words.
        served_by: The upstream that gave it.
        created: When it was made, in Unix seconds, in its provider's words.
    """

    text: str
    model: str
    served_by: str
    created: int


@dataclass(frozen=True)
class Found:
    """A kept answer and its age.

    Attributes:
        age_s: Since it was kept.
        fresh: Whether it may be given before any rung is asked.
    """

    kept: Kept
    age_s: int
    fresh: bool


@dataclass(frozen=True)
class Wishes:
    """What a caller says of caching (RFC 9111, 5.2.1)."""

    keep: bool = True
    give: bool = True
    most_age_s: int | None = None


ANYTHING = Wishes()


def wishes_of(call: Call) -> Wishes:
    """Returns what the caller of a request wants."""
    if not call.cache_control and call.body.get("store") is not False:
        return ANYTHING
    directives = [part.strip() for part in call.cache_control.lower().split(",")]
    private = _NO_STORE in directives or call.body.get("store") is False
    ages = [int(found[1]) for part in directives if (found := _MAX_AGE.fullmatch(part))]
    return Wishes(keep=not private, give=not (private or _NO_CACHE in directives), most_age_s=min(ages, default=None))


def applies(call: Call) -> bool:
    """Says whether answers to a request may be kept and given at all (rules 1 and 3)."""
    begun = call.continues or "continue_final_message" in call.body
    return call.route.cache is not None and call.needs <= KEEPS and call.choices == 1 and not begun


def request_of(call: Call, content: str) -> bytes:
    """Returns everything that shapes the answer to a request; equal bytes mean equal requests (rule 1).

    Args:
        call: The request.
        content: Names the version of the box's content.
    """
    asked = {name: value for name, value in call.body.items() if name not in TRAVEL}
    shape = (content, call.wire, call.model, call.route, call.regions, asked)
    return msgspec.json.encode(shape, order="deterministic")


def kept_of(said: Said, answer: Answer, created: int) -> Kept | None:
    """Returns what the cache keeps of an answer, None where it may not (rules 2 and 3)."""
    if answer.kind != UPSTREAM or not _whole(answer.told) or list(said.choices) != [0]:
        return None
    choice = said.choices[0]
    if choice.finish != "stop" or choice.more or choice.refusal or not choice.text.strip():
        return None
    if not _short(choice):
        return None
    return Kept(choice.text, said.model, answer.served_by, created)


def may_grow(said: Said) -> bool:
    """Says whether an answer that is being put together may still be one that is kept; a longer one takes no memory."""
    return not said.choices or (len(said.choices) == 1 and all(_short(one) for one in said.choices.values()))


def encode(kept: Kept) -> bytes:
    """Returns an answer as bytes whose length tells little of its own; white space after JSON is no part of it."""
    data = msgspec.json.encode(kept)
    return data.ljust(padme(len(data)))


def decode(data: bytes) -> Kept:
    """Reads what `encode` made; raises msgspec.DecodeError on anything else."""
    return msgspec.json.decode(data, type=Kept)


def found(kept: Kept, made_s: int, now_s: float, call: Call, wishes: Wishes) -> Found | None:
    """Returns a kept answer as this request may have it, None where it may not (rule 4).

    Args:
        kept: The answer.
        made_s: When it was kept, in Unix seconds.
        now_s: Unix seconds.
        call: The request.
        wishes: What its caller says.
    """
    spec, age_s = call.route.cache, int(now_s) - made_s
    if spec is None or age_s < -AHEAD_S or age_s >= spec.keep_s:
        return None
    age_s = max(0, age_s)
    if wishes.most_age_s is not None and age_s > wishes.most_age_s:
        return None
    return Found(kept, age_s, age_s < spec.fresh_s)


def told_of(kept: Found) -> dict[str, Any]:
    """Returns what an answer says of where it is from."""
    return {"age_s": kept.age_s, "served_by": kept.kept.served_by, "stale": not kept.fresh}


def created_of(value: Mapping[str, Any]) -> int:
    """Returns when a completion says that it was made; 0 where it does not."""
    created = value.get("created")
    return created if type(created) is int and 0 <= created < 2**53 else 0


def _short(choice: Choice) -> bool:
    return len(choice.text) <= TEXT_CHARS_MOST


def _whole(told: Told) -> bool:
    partly = told.segments or told.damaged_chunks or told.dropped_turns or told.ticket or told.cached
    other = told.upstream
    return not partly and other.get("mode", NORMAL) in (NORMAL, WATCH) and other.get("rung") != CACHE
