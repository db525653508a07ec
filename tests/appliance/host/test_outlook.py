"""What the rungs said last lies on the disk, for who has no token."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.gateway.classify import CREDENTIAL
from appliance.host import outlook
from appliance.host.outlook import Outlook, RungTold, keep_told
from appliance.store.layout import StateLayout

READY = ("cloud", "upstream", "ready", "")


@pytest.fixture
def layout(tmp_path: Path) -> StateLayout:
    found = StateLayout(tmp_path)
    found.make()
    return found


def test_what_is_written_is_read(layout: StateLayout) -> None:
    """Nothing yet, what was written, and nothing again where somebody changed it."""
    assert outlook.read(layout) == ()
    told = outlook.outlook([READY, ("llm", "model", "loading", "the local model is loading")])
    outlook.write(layout, told)
    assert outlook.read(layout) == told.rungs
    (layout.run / "rungs.json").write_text("{")
    assert outlook.read(layout) == ()


def test_the_seconds_of_a_hold_are_left_out() -> None:
    """Else the file would be written anew at every look."""
    one, two = (
        outlook.outlook([("cloud", "upstream", "failing", f"connection refused; asked again {words}")])
        for words in ("in 3 s", "now")
    )
    assert one == two
    assert one.rungs[0].reason == "connection refused"


@pytest.mark.parametrize("status", sorted(CREDENTIAL))
def test_a_refused_credential_is_known_by_our_own_words(status: int) -> None:
    """As `classify` puts them; a local model lacks no key."""
    refused = RungTold("cloud", "upstream", "failing", f"{CREDENTIAL[status]} ({status})")
    assert refused.lacks_key
    assert not RungTold("llm", "model", "failed", refused.reason).lacks_key
    assert not RungTold("cloud", "upstream", "failing", "it is throttled (429)").lacks_key


def test_only_a_change_is_written(layout: StateLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a disk that refuses it does not end the serving: it is tried again."""
    monkeypatch.setattr(outlook, "_LOOK_S", 0.0)
    first, second = (outlook.outlook([(name, "upstream", "ready", "")]) for name in ("one", "two"))
    looks = [None, first, first, first, second, second]
    written: list[Outlook] = []
    refusals = [OSError(28, "full")]

    def write(_: StateLayout, told: Outlook) -> None:
        if refusals:
            raise refusals.pop()
        written.append(told)

    monkeypatch.setattr(outlook, "write", write)

    async def look_all() -> None:
        done = asyncio.Event()

        def look() -> Outlook | None:
            if not looks:
                done.set()
                return second
            return looks.pop(0)

        task = asyncio.create_task(keep_told(look, layout))
        await done.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(look_all())
    assert written == [first, second]
