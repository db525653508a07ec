"""A box whose memory holds one model: the old one makes room for the new one while the other rungs answer."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from appliance.engine.machine import Machine
from appliance.host.trial import NotProved, Trial, tried
from appliance.store import current, versions
from appliance.store.layout import StateLayout
from appliance.store.seal import Seal

pytestmark = [pytest.mark.llm, pytest.mark.timeout(300)]
# What a serving process, one model with little room and the trial of a version take; two models do not fit.
LIMIT_BYTES = 1_100_000_000
MIB = 2**20
MODEL = "smollm2-135m"


@pytest.fixture
def small(serve: Any, memory_groups: Any) -> Iterator[Any]:
    """A box in a control group with little memory."""
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(memory_groups.memory_group(LIMIT_BYTES))
        except OSError as error:
            pytest.skip(f"no control group can be made here: {error}")
        yield stack.enter_context(serve(wrap=partial(memory_groups.inside, folder)))


def trial_in(customer: Any, free_bytes: int) -> Trial:
    """Tries the first version's knowledge as on a machine with so much memory free."""
    layout = StateLayout(customer.pristine)
    secrets = Seal(layout.keys).open()
    machine = Machine(free_bytes, "the control group", (), "", 2, 2, None)
    with versions.open_version(layout, secrets, versions.read_current(layout, secrets)) as bundle:
        return asyncio.run(tried(bundle, lambda: machine))


@pytest.mark.parametrize("free_bytes", [90 * MIB, 100 * MIB])
def test_knowledge_that_asks_for_more_than_is_free_ends_alone(customer: Any, free_bytes: int) -> None:
    """It is not even loaded, or it exhausts what a process of its own may take: told as a lack of memory."""
    with pytest.raises(NotProved, match="memory") as refused:
        trial_in(customer, free_bytes)
    assert refused.value.short


def test_knowledge_that_fits_is_weighed_and_timed(customer: Any) -> None:
    """What it took, and how long it needs for an answer."""
    trial = trial_in(customer, 4096 * MIB)
    assert trial.passed
    assert 10 * MIB < trial.held_bytes < 1024 * MIB
    assert trial.lines[-1].startswith("speed: faq in ")


def switched(box: Any, box_load: Any, number: int, *, serves: bool) -> Any:
    """Proposes a version while clients ask; returns what they met."""

    async def work() -> Any:
        async with box_load.under_load(box.url, box.token, 6) as load:
            await asyncio.sleep(1)
            current.propose(box.layout, number)
            found = await asyncio.to_thread(box.settled, number)
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
    assert rungs["message"] > 0, "the model was never away"


def test_the_old_model_comes_back_where_the_new_one_fails(small: Any, box_load: Any, variants: Any) -> None:
    """It is too slow by its profile, which shows only when it runs alone."""
    number = small.maker.version(variants.slow_model)
    load = switched(small, box_load, number, serves=False)
    assert [one.failure for one in load.failed] == []
    why = current.given_up(small.layout, number)
    assert why is not None
    assert "at most 1 are allowed" in why.reason
    assert load.rungs()["message"] > 0, "the model was never away"


def test_another_program_takes_the_place_of_the_old_one(small: Any, box_load: Any) -> None:
    """Two processes, one model at a time."""
    small.program("1.0", f'exec {sys.executable} "$@"')
    load = switched(small, box_load, small.maker.version(software="1.0"), serves=True)
    assert [one.failure for one in load.failed] == []
    assert load.rungs()["message"] > 0, "the model was never away"


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
