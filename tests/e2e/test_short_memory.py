"""A box whose memory holds one model: the old one makes room for the new one while the other rungs answer."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from appliance.store import current

pytestmark = [pytest.mark.llm, pytest.mark.timeout(300)]
# What a serving process, one model with little room and the trial of a version take; two models do not fit.
LIMIT_BYTES = 1_000_000_000
MODEL = "smollm2-135m"


@pytest.fixture
def small(serve: Any, memory_groups: Any) -> Iterator[Any]:
    """A box in a control group with little memory."""
    try:
        group = memory_groups.memory_group(LIMIT_BYTES)
        folder = group.__enter__()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        with serve(wrap=partial(memory_groups.inside, folder)) as box:
            yield box
    finally:
        group.__exit__(None, None, None)


def switched(box: Any, box_load: Any, number: int, *, serves: bool) -> Any:
    """Proposes a version while clients ask; returns what they met."""

    def settled() -> bool | None:
        if current.given_up(box.layout, number) is not None:
            return False
        return current.current_number(box.layout) == number or None

    async def work() -> Any:
        async with box_load.under_load(box.url, box.token, 6) as load:
            await asyncio.sleep(1)
            current.propose(box.layout, number)
            found = await asyncio.to_thread(box.wait_for, settled)
            assert found is serves, current.given_up(box.layout, number)
            await asyncio.to_thread(box.wait_for, lambda: _model_is_ready(box) or None)
            await asyncio.sleep(1)
        return load

    return asyncio.run(work())


def _model_is_ready(box: Any) -> bool:
    return all(engine["state"] == "ready" for engine in box.ready()["engines"])


def test_another_model_takes_the_place_of_the_old_one(small: Any, box_load: Any, variants: Any) -> None:
    """In one process: FAQ, documents or the last message answer meanwhile, each says so, and nobody is refused."""
    load = switched(small, box_load, small.maker.version(variants.with_other_model), serves=True)
    assert [one.failure for one in load.failed] == []
    rungs = load.rungs()
    assert rungs[MODEL] > 0
    assert set(rungs) - {MODEL, "models"}, "the model was never away"


def test_the_old_model_comes_back_where_the_new_one_fails(small: Any, box_load: Any, variants: Any) -> None:
    """It is too slow by its profile, which shows only when it runs alone."""
    number = small.maker.version(variants.slow_model)
    load = switched(small, box_load, number, serves=False)
    assert [one.failure for one in load.failed] == []
    why = current.given_up(small.layout, number)
    assert why is not None
    assert "at most 1 are allowed" in why.reason
    assert load.asked[-1].rung in (MODEL, "models", "helpdesk")


def test_another_program_takes_the_place_of_the_old_one(small: Any, box_load: Any) -> None:
    """Two processes, one model at a time."""
    small.program("1.0", f'exec {sys.executable} "$@"')
    load = switched(small, box_load, small.maker.version(software="1.0"), serves=True)
    assert [one.failure for one in load.failed] == []


def test_new_content_alone_keeps_the_model(small: Any, box_load: Any, variants: Any) -> None:
    """The memory that models leave to the rest of the box holds the knowledge of a second version."""
    engine = Path(f"/proc/{_engine(small)}")
    load = switched(small, box_load, small.maker.version(), serves=True)
    assert [one.failure for one in load.failed] == []
    assert engine.exists(), "the engine was started again"


def _engine(box: Any) -> int:
    """Returns the process id of the engine's child."""
    (serving,) = _children(box.process.pid)
    return next(
        child
        for child in _children(serving)
        if b"appliance.engine.child" in Path(f"/proc/{child}/cmdline").read_bytes()
    )


def _children(process: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
