"""Versions that answer wrong or slowly, take too much, are damaged, or crash: none serves, and nobody is refused."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from appliance.store import current
from appliance.store.enrol import Enroller
from appliance.store.install import Installer
from appliance.store.layout import StateLayout
from appliance.store.proof import Proof
from bundler.format.errors import SelftestFailed
from bundler.terminal import Terminal

pytestmark = [pytest.mark.llm, pytest.mark.timeout(600)]


def vectors_of(box: Any) -> str:
    """Returns the path of an asset that the knowledge of the serving version reads."""
    with box.bundle as bundle:
        return str(next(asset.path for asset in bundle.index.assets if asset.path.endswith("vectors.npy")))


def test_what_must_not_serve_is_refused_while_clients_ask(
    customer: Any, serve: Any, variants: Any, box_load: Any
) -> None:
    """Seven ways to go wrong, one after another: each with its reason on record, and no request without an answer."""
    with serve() as box:
        box.program("0.9", "exit 7")
        with box.bundle as bundle:
            model = bundle.index.service.models[0].asset
        bad = (
            ({"change": variants.wrong_answers}, "the self-test asks what the bundle does not hold: "),
            ({"change": variants.slow_search}, "speed: "),
            ({"change": variants.large}, "at most 1 are allowed"),
            ({"change": variants.slow_model}, "at most 1 are allowed"),
            ({"damaged": vectors_of(box)}, "is damaged near byte"),
            ({"change": variants.with_other_model, "damaged": model}, "model smollm2-135m: "),
            ({"software": "0.9"}, "exit code 7"),
        )

        async def work() -> Any:
            async with box_load.under_load(box.url, box.token, 6) as load:
                for options, reason in bad:
                    number = box.maker.version(**options)
                    current.propose(box.layout, number)
                    assert reason in await asyncio.to_thread(box.refused, number)
            return load

        load = asyncio.run(work())
        assert [one.failure for one in load.failed] == []
        assert len(load.asked) > 20
        assert current.current_number(box.layout) == 1
        told = customer.run("appliance", "status", "--state", box.layout.root).stdout
        assert told.count("was refused") == len(bad)
        check = customer.run("appliance", "check", "--state", box.layout.root)
        assert check.returncode == 1, check.stdout
        assert "exit code 7" in check.stdout
        assert box.ready()["selftest"]
    assert "Traceback" not in box.log.read_text()


def test_software_that_dies_after_it_took_over_is_rolled_back_at_once(serve: Any) -> None:
    """The first end is enough where the version before was well until then."""
    with serve() as box:
        box.program("1.0", f'exec {sys.executable} "$@"')
        number = box.maker.version(software="1.0")
        current.propose(box.layout, number)
        box.wait_for(lambda: f"serving version {number}" in box.log.read_text() or None)
        children = Path(f"/proc/{box.process.pid}/task/{box.process.pid}/children").read_text().split()
        for child in children:  # the one that leaves, too: the box has nothing left that serves
            os.kill(int(child), signal.SIGKILL)
        box.wait_for(lambda: current.current_number(box.layout) == 1 or None)
        why = current.given_up(box.layout, number)
        assert why is not None
        assert why.what == "rolled back"
        assert "it was killed by signal 9" in why.reason
        box.wait_for(lambda: box.log.read_text().rstrip().endswith("serving version 1") or None)


def test_a_version_that_took_the_box_down_is_not_tried_again(serve: Any) -> None:
    """The attempt is on the disk before it begins; after it the old version serves, and the reason is on record."""

    def power_cut(maker: Any) -> None:
        number = maker.version()
        current.propose(maker.layout, number)
        current.note_attempt(maker.layout, number)

    with serve(power_cut) as box:
        assert "the box went down while this version proved itself" in box.refused(2)
        box.wait_for(lambda: current.attempted(box.layout) is None or None)
        assert current.waiting_number(box.layout) is None
        assert "serving version 1" in box.log.read_text()


def test_an_install_that_fails_its_selftest_is_on_record(customer: Any, tmp_path: Path) -> None:
    """Also where nothing serves; the next attempt takes its place."""
    state = tmp_path / "state"
    shutil.copytree(customer.pristine, state, symlinks=True)
    layout = StateLayout(state)
    layout.make()
    lines = ("faq: 1 of 9 (at least 85 %)  FAILED",)
    bad = Proof(passed=False, lines=lines, model_tested=False)
    enroller = Enroller("bristol", customer.code.read_text)
    for _ in range(2):
        with pytest.raises(SelftestFailed, match="faq: 1 of 9"):
            Installer(layout, enroller, lambda _: bad, lambda _: None, Terminal()).install(
                customer.repository, datetime.now(UTC)
            )
    assert sorted(current.numbers(layout)) == [1, 3]
    told = customer.run("appliance", "status", "--state", state).stdout
    assert told.count("was refused") == 1
    assert "faq: 1 of 9" in told


def test_a_person_goes_back_while_clients_ask(customer: Any, serve: Any, box_load: Any) -> None:
    """From other software, back to N-1, which is not asked to prove itself again: no request fails."""
    with serve() as box:
        box.program("1.0", f'exec {sys.executable} "$@"')

        async def work() -> Any:
            async with box_load.under_load(box.url, box.token, 6, "smollm2-135m") as load:
                number = box.maker.version(software="1.0")
                current.propose(box.layout, number)
                await asyncio.to_thread(box.wait_for, lambda: current.current_number(box.layout) == number or None)
                words = ("rollback", "--state", box.layout.root, "--reason", "odd")
                done = await asyncio.to_thread(customer.run, "appliance", *words)
                assert done.returncode == 0, done.stderr
                ended = box.log.read_text
                await asyncio.to_thread(box.wait_for, lambda: ended().rstrip().endswith("serving version 1") or None)
                await asyncio.sleep(1)
            return load

        load = asyncio.run(work())
        assert [one.failure for one in load.failed] == []
