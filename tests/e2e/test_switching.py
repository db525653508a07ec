"""A box that serves moves to other versions and back: nobody who asks meanwhile notices."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import openai
import pytest

from appliance.store import current

pytestmark = [pytest.mark.llm, pytest.mark.timeout(600)]
QUESTION: Any = {"role": "user", "content": "After how many minutes does a locked account open again?"}


def test_content_and_software_change_without_a_lost_request(serve: Any, box_load: Any) -> None:
    """Twice the same program with another version, twice another program: each takes over while nine clients ask."""
    with serve() as box:
        for name in ("1.0", "1.1"):
            box.program(name, f'exec {sys.executable} "$@"')

        async def work() -> Any:
            steps = (("", "serves already"), ("1.0", "answers in"), ("1.1", "answers in"), ("", "answers in"))
            async with box_load.under_load(box.url, box.token, 9) as load:
                for software, said in steps:
                    number = box.maker.version(software=software)
                    current.propose(box.layout, number)
                    assert await asyncio.to_thread(box.settled, number), current.given_up(box.layout, number)
                    proof = current.proof_of(box.layout, number)
                    assert proof is not None
                    assert any(line.startswith(f"model smollm2-135m: {said}") for line in proof.lines)
                    assert any(line.startswith("faq: ") for line in proof.lines)
                    await asyncio.sleep(1)
            return load

        load = asyncio.run(work())
        assert [one.failure for one in load.failed] == []
        assert len(load.asked) > 20
        assert box.process.poll() is None
    assert "Traceback" not in box.log.read_text()


def test_a_version_that_was_changed_on_the_disk_is_refused(serve: Any) -> None:
    """Its record does not match its MAC: the serving process says so, and stays."""
    with serve() as box:
        number = box.maker.version()
        record = box.layout.version(number) / "version.json"
        record.write_text(record.read_text().replace('"model_tested":true', '"model_tested":false'))
        current.propose(box.layout, number)
        assert not box.settled(number)
        why = current.given_up(box.layout, number)
        assert why is not None
        assert "was changed on this disk" in why.reason


def test_a_serving_process_that_dies_is_started_again_while_clients_wait(serve: Any) -> None:
    """The socket is the supervisor's: a request that comes between two processes is answered by the next."""
    with serve() as box:
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
        box.wait_for(lambda: current.current_number(box.layout) == 1 or None)
        why = current.given_up(box.layout, number)
        assert why is not None
        assert why.what == "rolled back"
        done = customer.run("appliance", "status", "--state", box.layout.root)
        assert f"version {number} was rolled back" in done.stdout


def test_a_person_goes_back(customer: Any, serve: Any) -> None:
    """`rollback` records who said why; the serving box follows, and there is no second way back."""
    with serve() as box:
        number = box.maker.version()
        current.propose(box.layout, number)
        assert box.settled(number)
        words = ("rollback", "--state", box.layout.root, "--reason", "answers look odd")
        done = customer.run("appliance", *words)
        assert done.returncode == 0, done.stderr
        box.wait_for(lambda: box.log.read_text().rstrip().endswith("serving version 1") or None)
        assert current.given_up(box.layout, number).reason == "answers look odd"  # type: ignore[union-attr]
        assert customer.run("appliance", *words).returncode == 6


def test_check_tells_monitoring(customer: Any, serve: Any, tmp_path: Path) -> None:
    """One line and the exit codes of monitoring plugins."""
    with serve() as box:
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


def test_a_record_that_is_gone_gives_way_to_the_version_before(serve: Any) -> None:
    """At the start: the version before serves, and the reason is on record."""

    def damaged(maker: Any) -> None:
        shutil.copytree(maker.layout.version(1), maker.layout.version(2))
        (maker.layout.version(2) / "version.json").unlink()
        current.activate(maker.layout, 2)

    with serve(damaged) as box:
        assert current.current_number(box.layout) == 1
        why = current.given_up(box.layout, 2)
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
    box.wait_for(lambda: serving_process(box) not in (old, 0) or None)
    box.wait_for(lambda: box.log.read_text().count("serving version") > served_before or None)
