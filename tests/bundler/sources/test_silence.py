"""A hub that says nothing: whoever waits is told so at once, and the program waits as it did."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bundler.format.errors import SourceFailed
from bundler.silence import ANSWER_S, BYTES_S, Silence, notice
from bundler.sources import hub
from bundler.sources.hub_patience import PATIENCE, HubPatience
from bundler.sources.place import Place
from bundler.sources.source import Fetched, HubSource, parse

SOURCE, DATA = "hub:org/name/model.gguf", bytes(range(256)) * 40
FIRST = "hub.example has said nothing for 2 s: it gets 20 s to connect and 30 s to answer, 5 times in a row"


class Ticks:
    """A clock that ticks so many times in a block, however short that is."""

    def __init__(self, ticks: int, act: Callable[[int], None] = lambda _: None) -> None:
        self.ticks, self.act, self.left = ticks, act, dict[threading.Event, int]()
        self.told = list[str]()

    def ended(self, event: threading.Event, seconds: float) -> bool:
        assert seconds == 1.0
        passed = self.ticks - self.left.setdefault(event, self.ticks)
        if passed == self.ticks:
            return event.wait(60)
        self.left[event] -= 1
        self.act(passed)
        return False

    def patience(self, patience: HubPatience = PATIENCE) -> HubPatience:
        return replace(patience, ended=self.ended, told=self.told.append, sleep=lambda _: None)


@pytest.mark.parametrize(
    ("waited_s", "told"),
    [
        (1, None),
        (2, FIRST),
        (3, None),
        (11, None),
        (12, "hub.example has said nothing for 12 s"),
        (22, "hub.example has said nothing for 22 s"),
    ],
)
def test_what_is_told_when(waited_s: float, told: str | None) -> None:
    """After two seconds, with how long it may take, and then every ten."""
    assert notice("hub.example", FIRST.partition(" gets ")[2], waited_s, ANSWER_S) == told


def test_it_is_told_while_it_is_waited() -> None:
    """In the block, not after it."""
    clock = Ticks(13)
    with clock.patience().silence("hub.example"):
        for _ in range(6_000):
            if len(clock.told) == 2:
                break
            threading.Event().wait(0.01)
        assert clock.told == [FIRST, "hub.example has said nothing for 12 s"]
    assert not [thread for thread in threading.enumerate() if thread.name == "silence"]


def test_what_is_heard_begins_the_count_anew() -> None:
    """A line that brings a byte now and then is slow, and not silent."""
    silences = list[Silence]()
    clock = Ticks(40, lambda passed: silences[0].heard() if passed % 9 == 0 else None)
    silences.append(clock.patience().silence("hub.example", BYTES_S))
    with silences[0]:
        pass
    assert clock.told == []


def test_nothing_is_told_of_a_hub_that_answers() -> None:
    """A block that ends before its first second has no words."""
    clock = Ticks(1)
    with clock.patience().silence("hub.example"):
        pass
    assert clock.told == []


@pytest.mark.parametrize("stage", ["info", "tree", "head", "store"])
def test_a_hub_that_hangs(
    local_hub: Any,
    place: Place,
    fault: Any,
    quick: HubPatience,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
) -> None:
    """At each stage the silence is told, then the try that comes; the file comes all the same."""
    local_hub.add("org/name", {"model.gguf": DATA})
    local_hub.break_(fault("stall", stage=stage, at_bytes=-1))
    monkeypatch.setenv("HF_ENDPOINT", local_hub.endpoint)
    clock = Ticks(2)
    said = _pull(replace(place, say=clock.told.append), clock.patience(quick))
    assert said.path.read_bytes() == DATA
    given = f"it gets {quick.connect_s:.0f} s to connect and {quick.silence_s:.0f} s to answer, 5 times in a row"
    assert f"127.0.0.1 has said nothing for 2 s: {given}" in clock.told
    assert any("127.0.0.1 said nothing for too long; again in 0 s, try 2 of 5" in line for line in clock.told)


def test_a_file_that_stops_in_its_middle(
    local_hub: Any, place: Place, fault: Any, quick: HubPatience, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection lives and brings nothing: told, too, where the bytes are read."""
    local_hub.add("org/name", {"model.gguf": DATA})
    local_hub.break_(fault("stall", at_bytes=5_000))
    monkeypatch.setenv("HF_ENDPOINT", local_hub.endpoint)
    heard, before = list[Silence](), Silence.heard

    def hear(silence: Silence) -> None:
        heard.append(silence)
        before(silence)

    monkeypatch.setattr(Silence, "heard", hear)
    clock = Ticks(10)
    assert _pull(replace(place, say=clock.told.append), clock.patience(quick)).length_bytes == len(DATA)
    assert {silence._after_s for silence in heard} == {BYTES_S}
    assert any(line.startswith("127.0.0.1 has said nothing for 10 s: it gets") for line in clock.told)


def test_what_a_server_says_steers_no_terminal(place: Place) -> None:
    """Foreign words in a fault come without their control characters; where nobody hears, nothing is said."""
    told = list[str]()
    replace(place, say=told.append).tell("a \x1b[2J b")
    place.tell("a")
    assert told == ["a ?[2J b"]


def test_a_hub_that_is_not_there_is_told_try_by_try(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed port: every pause is told before it is made, and there is none after the last try."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    slept, clock = list[float](), Ticks(0)
    patience = replace(clock.patience(), sleep=slept.append)
    with pytest.raises(SourceFailed, match="after 5 tries"):
        _pull(replace(place, say=clock.told.append), patience)
    assert slept == [1.0, 2.0, 4.0, 8.0]
    tails = [line.rpartition("; ")[2] for line in clock.told]
    assert tails == [f"again in {2**number} s, try {number + 2} of 5" for number in range(4)]
    assert all("the connection to 127.0.0.1 failed" in line for line in clock.told)


def _pull(place: Place, patience: HubPatience) -> Fetched:
    source = parse(SOURCE)
    assert isinstance(source, HubSource)
    return hub.fetch(source, place, patience)
