"""A box that serves moves to other versions and back: nobody who asks meanwhile notices."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import openai
import pytest

from appliance.store import current, versions
from appliance.store.layout import StateLayout
from appliance.store.seal import Seal
from appliance.store.unpacking import MARKER
from bundler.files import DISK

pytestmark = [pytest.mark.llm, pytest.mark.timeout(600)]
QUESTION: Any = {"role": "user", "content": "After how many minutes does a locked account open again?"}


@dataclass
class Running:
    """A box that serves a state of its own."""

    url: str
    token: str
    layout: StateLayout
    process: subprocess.Popen[bytes]
    log: Path
    programs: Path

    def version(self, software: str = "", **changed: Any) -> int:
        """Writes one more version like the serving one, and returns its number."""
        secrets = Seal(self.layout.keys).open()
        serving = versions.read_current(self.layout, secrets)
        number = versions.next_number(self.layout)
        keys = (self.layout.version(serving.number) / "keys.age").read_bytes()
        fresh = replace(serving, number=number, software=software, **changed)
        versions.write_version(self.layout, secrets, fresh, keys, DISK)
        return number

    def settled(self, number: int) -> bool:
        """Waits until a proposed version serves or is refused; returns whether it serves."""
        return wait_for(
            lambda: (
                True
                if current.current_number(self.layout) == number
                else False
                if current.given_up(self.layout, number) is not None
                else None
            )
        )

    def program(self, name: str, script: str) -> None:
        """Installs a version of the program: a script in place of its interpreter."""
        path = self.programs / name / "bin" / "python"
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        (self.programs / name / MARKER).write_text("{}")


def wait_for(look: Callable[[], bool | None]) -> bool:
    end = time.monotonic() + 180
    while time.monotonic() < end:
        found = look()
        if found is not None:
            return found
        time.sleep(0.1)
    raise AssertionError("nothing happened")


@contextmanager
def served(customer: Any, folder: Path) -> Iterator[Running]:
    state = folder / "state"
    shutil.copytree(customer.pristine, state, symlinks=True)
    token = json.loads(customer.must("appliance", "token", "create", "switch", "--state", state, "--json"))["token"]
    url, log, programs = folder / "url", folder / "log", folder / "programs"
    words = ["serve", "--state", state, "--port", "0", "--port-file", url, "--programs", programs]
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "appliance", *map(str, words)], stdout=output, stderr=output)
    try:
        wait_for(lambda: url.exists() or None)
        yield Running(url.read_text().strip(), token, StateLayout(state), process, log, programs)
    finally:
        process.terminate()
        process.wait(60)


def under_load(box: Running, work: Callable[[], Awaitable[None]]) -> tuple[int, list[str]]:
    """Does a work while eight clients ask; returns how many answers came, and what failed."""
    answered, failed, over = [0], [], asyncio.Event()

    async def client(number: int) -> None:
        async with openai.AsyncOpenAI(base_url=f"{box.url}/v1", api_key=box.token, max_retries=0, timeout=60) as asked:
            while not over.is_set():
                try:
                    stream = await asked.chat.completions.create(model="auto", messages=[QUESTION], stream=True)
                    reasons = [event.choices[0].finish_reason async for event in stream if event.choices]
                    assert reasons[-1] in ("stop", "length")
                    answered[0] += 1
                except Exception as error:  # noqa: BLE001 - whatever a client met is the finding
                    failed.append(f"{type(error).__name__}: {error!s:.200}")
                await asyncio.sleep(0.05 * (number % 3))

    async def run() -> None:
        clients = [asyncio.create_task(client(number)) for number in range(8)]
        try:
            await work()
        finally:
            over.set()
            await asyncio.gather(*clients)

    asyncio.run(run())
    return answered[0], failed


def test_content_and_software_change_without_a_lost_request(customer: Any, tmp_path: Path) -> None:
    """Twice the same program with another version, twice another program: each takes over while eight clients ask."""
    with served(customer, tmp_path) as box:
        for name in ("1.0", "1.1"):
            box.program(name, f'exec {sys.executable} "$@"')

        async def work() -> None:
            for software, said in (
                ("", "serves already"),
                ("1.0", "answers in"),
                ("1.1", "answers in"),
                ("", "answers in"),
            ):
                number = box.version(software)
                current.propose(box.layout, number)
                assert await asyncio.to_thread(box.settled, number), current.given_up(box.layout, number)
                proof = current.proof_of(box.layout, number)
                assert proof is not None
                assert any(line.startswith(f"model smollm2-135m: {said}") for line in proof.lines)
                assert any(line.startswith("faq: ") for line in proof.lines)
                await asyncio.sleep(1)

        answered, failed = under_load(box, work)
        assert failed == []
        assert answered > 20
        assert box.process.poll() is None
    assert "Traceback" not in box.log.read_text()


def test_software_that_crashes_at_start_never_serves(customer: Any, tmp_path: Path) -> None:
    """It is refused with how it ended, and what served goes on."""
    with served(customer, tmp_path) as box:
        box.program("1.0", "exit 7")

        async def work() -> None:
            number = box.version("1.0")
            current.propose(box.layout, number)
            assert not await asyncio.to_thread(box.settled, number)

        _, failed = under_load(box, work)
        assert failed == []
        assert current.current_number(box.layout) == 1
        why = current.given_up(box.layout, 2)
        assert why is not None
        assert why.what == "refused"
        assert "exit code 7" in why.reason


def test_a_version_that_was_changed_on_the_disk_is_refused(customer: Any, tmp_path: Path) -> None:
    """Its record does not match its MAC: the serving process says so, and stays."""
    with served(customer, tmp_path) as box:
        number = box.version()
        record = box.layout.version(number) / "version.json"
        record.write_text(record.read_text().replace('"model_tested":true', '"model_tested":false'))
        current.propose(box.layout, number)
        assert not box.settled(number)
        why = current.given_up(box.layout, number)
        assert why is not None
        assert "was changed on this disk" in why.reason


def test_a_serving_process_that_dies_is_started_again_while_clients_wait(customer: Any, tmp_path: Path) -> None:
    """The socket is the supervisor's: a request that comes between two processes is answered by the next."""
    with served(customer, tmp_path) as box:
        os.kill(serving_process(box), signal.SIGKILL)
        with openai.OpenAI(base_url=f"{box.url}/v1", api_key=box.token, max_retries=0, timeout=60) as client:
            answer = client.chat.completions.create(model="auto", messages=[QUESTION])
        assert "20 minutes" in str(answer.choices[0].message.content)


def test_a_version_that_keeps_dying_gives_way_to_the_one_before(customer: Any, serve: Any) -> None:
    """Three ends in a row, each soon after a start: the box goes back, with the reason on record."""
    number = 2
    with serve(lambda maker: current.activate(maker.layout, maker.version())) as box:
        for _ in range(3):
            old = serving_process(box)
            os.kill(old, signal.SIGKILL)
            await_another(box, old)
        wait_for(lambda: current.current_number(box.layout) == 1 or None)
        why = current.given_up(box.layout, number)
        assert why is not None
        assert why.what == "rolled back"
        done = customer.run("appliance", "status", "--state", box.layout.root)
        assert f"version {number} was rolled back" in done.stdout


def test_a_person_goes_back(customer: Any, tmp_path: Path) -> None:
    """`rollback` records who said why; the serving box follows, and there is no second way back."""
    with served(customer, tmp_path) as box:
        number = box.version()
        current.propose(box.layout, number)
        assert box.settled(number)
        words = ("rollback", "--state", box.layout.root, "--reason", "answers look odd")
        done = customer.run("appliance", *words)
        assert done.returncode == 0, done.stderr
        wait_for(lambda: box.log.read_text().rstrip().endswith("serving version 1") or None)
        assert current.given_up(box.layout, number).reason == "answers look odd"  # type: ignore[union-attr]
        assert customer.run("appliance", *words).returncode == 6


def test_check_tells_monitoring(customer: Any, tmp_path: Path) -> None:
    """One line and the exit codes of monitoring plugins."""
    with served(customer, tmp_path) as box:
        good = customer.run("appliance", "check", "--state", box.layout.root)
        told = good.stdout.split("; ")
        # A machine that runs tests may have a full disk, which is a warning, and then the only one.
        full = "% of the disk are free" in told[0]
        assert good.returncode == int(full), good.stdout
        assert (told[1] if full else told[0].removeprefix("LIFEBOAT OK: ")).startswith("version 1")
        assert len(good.stdout.splitlines()) == 1
    dark = customer.run("appliance", "check", "--state", box.layout.root)
    assert dark.returncode == 2
    assert "nothing serves" in dark.stdout
    nothing = customer.run("appliance", "check", "--state", tmp_path / "empty")
    assert nothing.returncode == 3


def test_a_record_that_is_gone_gives_way_to_the_version_before(customer: Any, tmp_path: Path) -> None:
    """At the start: the version before serves, and the reason is on record."""
    state = tmp_path / "state"
    shutil.copytree(customer.pristine, state, symlinks=True)
    layout = StateLayout(state)
    layout.make()
    shutil.copytree(layout.version(1), layout.version(2))
    (layout.version(2) / "version.json").unlink()
    current.activate(layout, 2)
    url = tmp_path / "url"
    words = ["serve", "--state", str(state), "--port", "0", "--port-file", str(url)]
    with subprocess.Popen([sys.executable, "-m", "appliance", *words], stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: url.exists() or None)
        process.terminate()
    assert current.current_number(layout) == 1
    why = current.given_up(layout, 2)
    assert why is not None
    assert "version.json" in why.reason


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write for somebody else")
def test_what_root_writes_belongs_to_the_owner_of_the_state(customer: Any, tmp_path: Path) -> None:
    """Otherwise the service could not read it; a whole install, a token, and a lock."""
    state = tmp_path / "state"
    shutil.copytree(customer.pristine, state, symlinks=True)
    tmp_path.chmod(0o755)
    for path in (state, *state.rglob("*")):
        os.chown(path, 65534, 65534, follow_symlinks=False)
    customer.must("appliance", "secret", "list", "--state", state)
    customer.must("appliance", "token", "create", "x", "--state", state)
    installed = customer.install(customer.repository, state)
    assert installed.returncode == 0, installed.stderr
    assert [path for path in state.rglob("*") if path.lstat().st_uid != 65534 and not path.is_symlink()] == []


def serving_process(box: Any) -> int:
    """Returns the process id of the serving process, or 0."""
    children = Path(f"/proc/{box.process.pid}/task/{box.process.pid}/children").read_text().split()
    return int(children[0]) if children else 0


def await_another(box: Any, old: int) -> None:
    """Waits until another process serves than the one that was killed."""
    served_before = box.log.read_text().count("serving version")
    wait_for(lambda: serving_process(box) not in (old, 0) or None)
    wait_for(lambda: box.log.read_text().count("serving version") > served_before or None)
