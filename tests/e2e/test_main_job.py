import asyncio
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import openai
import pytest

from appliance.store import current, versions
from appliance.store.enrol import Enroller
from appliance.store.install import Installer
from appliance.store.layout import StateLayout
from appliance.store.proof import Proof
from appliance.store.seal import Seal
from bundler.format.errors import MetadataExpired, TooOld
from bundler.terminal import Terminal, exit_code

pytestmark = [pytest.mark.llm, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Served:
    """A box that serves, and a token for it."""

    url: str
    token: str


@pytest.fixture(scope="session")
def served(customer: Any) -> Iterator[Served]:
    with serving(customer, customer.state, customer.folder) as served:
        wait_until_ready(served)
        yield served


@contextmanager
def serving(customer: Any, state: Path, folder: Path) -> Iterator[Served]:
    token = json.loads(customer.must("appliance", "token", "create", "test", "--state", state, "--json"))
    url_file = folder / "url"
    words = ["serve", "--state", str(state), "--port", "0", "--port-file", str(url_file)]
    log = (folder / "serve.log").open("wb")
    with log, subprocess.Popen([sys.executable, "-m", "appliance", *words], stdout=log, stderr=log) as process:
        try:
            yield Served(wait_for_text(url_file, process), token["token"])
        finally:
            process.terminate()


def wait_for_text(path: Path, process: subprocess.Popen[bytes]) -> str:
    for _ in range(600):
        if path.exists() and path.read_text():
            return path.read_text().strip()
        assert process.poll() is None
        time.sleep(0.1)
    raise AssertionError(f"{path} was not written")


def wait_until_ready(served: Served) -> None:
    for _ in range(1200):
        with urlopen(f"{served.url}/status.json") as answer:
            rungs = {rung["rung"]: rung["state"] for rung in json.load(answer)["rungs"]}
        if rungs["smollm2-135m"] == "ready":
            return
        time.sleep(0.1)
    raise AssertionError(rungs)


@pytest.fixture
def client(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=served.token, max_retries=0) as made:
        yield made


def test_the_openai_client_works_unmodified(client: openai.OpenAI) -> None:
    """Plain chat, streamed chat, embeddings and the model list, against the box with the cloud dead."""
    names = [model.id for model in client.models.list()]
    assert {"auto", "smollm2-135m", "all-minilm-l6-v2"} <= set(names)
    question: Any = [{"role": "user", "content": "What is a lifeboat?"}]
    plain = client.chat.completions.create(model="auto", messages=question, max_tokens=24, temperature=0)
    assert plain.choices[0].message.content
    assert plain.model_extra is not None
    assert plain.model_extra["lifeboat"]["rung"] == "smollm2-135m"
    stream = client.chat.completions.create(model="auto", messages=question, max_tokens=24, temperature=0, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text == plain.choices[0].message.content
    vectors = client.embeddings.create(model="all-minilm-l6-v2", input=["a boat", "a ship", "an invoice"])
    one, two, three = (item.embedding for item in vectors.data)
    assert sum(a * b for a, b in zip(one, two, strict=True)) > sum(a * b for a, b in zip(one, three, strict=True))


def test_without_a_token_nothing_is_told(served: Served) -> None:
    """Every endpoint of the API wants the token."""
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="lb_wrong", max_retries=0) as wrong:
        with pytest.raises(openai.AuthenticationError):
            wrong.models.list()
        with pytest.raises(openai.AuthenticationError):
            wrong.chat.completions.create(model="auto", messages=[{"role": "user", "content": "x"}])


def test_two_chats_at_once_both_finish(served: Served) -> None:
    """The engine takes one at a time; the gateway loses none."""

    async def both() -> list[str | None]:
        async with openai.AsyncOpenAI(base_url=f"{served.url}/v1", api_key=served.token, max_retries=0) as made:
            asked = [
                made.chat.completions.create(model="auto", messages=[{"role": "user", "content": text}], max_tokens=16)
                for text in ("Name a colour.", "Name an animal.")
            ]
            return [answer.choices[0].finish_reason for answer in await asyncio.gather(*asked)]

    assert set(asyncio.run(both())) <= {"stop", "length"}


def attempt(customer: Any, repository: Path, state: Path) -> subprocess.CompletedProcess[str]:
    """Installs over a box that has the first version; what an earlier attempt copied is not there."""
    shutil.rmtree(state, ignore_errors=True)
    shutil.copytree(customer.pristine, state, symlinks=True, copy_function=lambda a, b: Path(b).hardlink_to(a))
    done: subprocess.CompletedProcess[str] = customer.install(repository, state)
    return done


def served_bundle(state: Path) -> int:
    layout = StateLayout(state)
    secrets = Seal(layout.keys).open()
    version = versions.read_current(layout, secrets)
    with versions.open_version(layout, secrets, version) as bundle:
        assert bundle.read("faq/helpdesk/faq.jsonl")
    return version.number


def changed(customer: Any, path: Path, *, place: float | None) -> Path:
    """Returns a copy of the repository with one byte of a file flipped, or without the file."""
    target: Path = customer.folder / "changed"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(customer.repository, target, copy_function=lambda a, b: Path(b).hardlink_to(a))
    file = target / path
    data = bytearray(file.read_bytes())
    file.unlink()
    if place is not None:
        data[int(place * (len(data) - 1))] ^= 1
        file.write_bytes(data)
    return target


def files_of(customer: Any) -> list[Path]:
    """The files of the newest bundle and its metadata; the first bundle's own files are not read any more."""
    paths = [path.relative_to(customer.repository) for path in customer.repository.rglob("*") if path.is_file()]
    newest = max(path.parts[1] for path in paths if path.parts[0] == "bundles")
    number = re.compile(r"^(\d+)\.")
    metadata = [path for path in paths if path.parts[0] == "metadata" and path.suffix == ".json"]
    roles = {path.name.split(".", 1)[1] if number.match(path.name) else path.name for path in metadata}
    latest = [
        max(
            (path for path in metadata if path.name.endswith(role)),
            key=lambda path: int(found[1]) if (found := number.match(path.name)) else 0,
        )
        for role in sorted(roles)
        if role != "root.json"
    ]
    mine = [path for path in paths if path.parts[0] == "bundles" and path.parts[1] == newest]
    return sorted([*mine, *latest, Path("sites/bristol/keys.age")])


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_a_flipped_byte_in_any_file_is_refused(customer: Any, place: float, tmp_path: Path) -> None:
    """Each file of the update, damaged anywhere: exit code 14, the file named or the role, and version 1 serves on."""
    for path in files_of(customer):
        done = attempt(customer, changed(customer, path, place=place), tmp_path / "state")
        # A flipped header of keys.age can also look like a file for somebody else.
        assert done.returncode in ((14, 17) if path.name == "keys.age" else (14,)), (path, done.stderr)
        assert "error:" in done.stderr
        assert served_bundle(tmp_path / "state") == 1


def test_a_missing_file_is_refused(customer: Any, tmp_path: Path) -> None:
    """Each file of the update, absent: exit code 16, and version 1 serves on."""
    for path in files_of(customer):
        done = attempt(customer, changed(customer, path, place=None), tmp_path / "state")
        assert done.returncode == 16, (path, done.stderr)
        assert "missing" in done.stderr
        assert served_bundle(tmp_path / "state") == 1


def test_a_wrong_site_code_and_a_foreign_root(customer: Any, tmp_path: Path) -> None:
    """A code of another card is 17; a medium signed by somebody else is 11. Nothing is left in the state."""
    wrong = tmp_path / "code"
    wrong.write_text("0000-0000-0000-00000")
    words = ("install", customer.repository, "--state", tmp_path / "state", "--site", "bristol")
    done = customer.run("appliance", *words, "--site-code-file", wrong)
    assert done.returncode == 17, done.stderr
    assert not (tmp_path / "state" / "current").exists()
    for path in (customer.repository / "metadata").glob("*.root.json"):
        foreign = changed(customer, path.relative_to(customer.repository), place=0.5)
        done = customer.install(foreign, tmp_path / "state")
        assert done.returncode == 11, done.stderr


def installer(customer: Any, state: Path) -> Installer:
    prove = lambda _: Proof(passed=True, lines=(), model_tested=True)  # noqa: E731 - one line of a fake
    layout = StateLayout(state)
    switch = partial(current.activate, layout)
    return Installer(layout, Enroller("bristol", customer.code.read_text), prove, switch, Terminal())


def test_expired_metadata_and_an_older_medium(customer: Any, tmp_path: Path) -> None:
    """Past its grace the medium is 12; a medium older than what the box has is 13."""
    late = datetime.now(UTC) + timedelta(days=365 + 200)
    with pytest.raises(MetadataExpired) as expired:
        installer(customer, tmp_path / "late").install(customer.repository, late)
    assert exit_code(expired.value) == 12
    assert not (tmp_path / "late" / "current").exists()
    state = tmp_path / "state"
    assert installer(customer, state).install(customer.repository, datetime.now(UTC)).changed
    with pytest.raises(TooOld) as old:
        installer(customer, state).install(customer.first, datetime.now(UTC))
    assert exit_code(old.value) == 13


def test_the_same_medium_again_is_nothing_to_do(customer: Any) -> None:
    """A second install of what serves changes nothing and succeeds."""
    done = customer.install(customer.first, customer.state)
    assert done.returncode == 0
    assert "nothing to do\nits last self-test, which was not run again now:\n" in done.stdout


def test_nothing_of_the_content_lies_in_the_state(customer: Any) -> None:
    """No plaintext of FAQ, documents, model or tokenizer is found on the disk of the box."""
    marks = [b"GGUF", b"Northquay and Aldous", b"wordpiece", b"sla-p2", b"\x93NUMPY", b"embedding"]
    for path in customer.state.rglob("*"):
        if path.is_file() and path.suffix not in (".json",):
            data = path.read_bytes()
            assert not [mark for mark in marks if len(mark) > 4 and mark in data], path
            assert data[:4] != b"GGUF"


def test_a_file_that_the_disk_damaged_is_copied_again(customer: Any, tmp_path: Path) -> None:
    """A leftover of the right length with wrong bytes does not block the install for ever."""
    state = tmp_path / "state"
    attempt(customer, changed(customer, Path("sites/bristol/keys.age"), place=None), state)
    newest = max(path.name for path in (customer.repository / "bundles").iterdir())
    index = Path("bundles") / newest / "index.age"
    (state / "repository" / index).parent.mkdir(parents=True, exist_ok=True)
    (state / "repository" / index).write_bytes(bytes((customer.repository / index).stat().st_size))
    done = customer.install(customer.repository, state)
    assert done.returncode == 0, done.stderr
    assert served_bundle(state) == 2


def test_deep_verification_by_the_builder(customer: Any) -> None:
    """`verify --deep` opens every chunk of both bundles."""
    keys = ("--passphrase-file", customer.folder / "pass")
    found = json.loads(customer.must("bundler", "verify", customer.repository, "--deep", "--json", *keys))
    assert len(found["bundles"]) == 2
    assert found["deep"]


def test_a_copied_stick_installs(customer: Any, tmp_path: Path) -> None:
    """`copy` puts on a medium all that a new box needs, and the delivered volumes are left out of the next copy."""
    keys = ("--passphrase-file", customer.folder / "pass")
    words = ("copy", customer.repository, tmp_path / "usb", "--site", "bristol", "--json", *keys)
    first = json.loads(customer.must("bundler", *words, "--full"))["copies"][0]
    installed = customer.install(tmp_path / "usb", tmp_path / "state")
    assert installed.returncode == 0, installed.stderr
    again = json.loads(customer.must("bundler", "copy", customer.repository, tmp_path / "next", *words[3:]))["copies"][
        0
    ]
    assert first["left_out"] == []
    assert again["written_bytes"] < first["written_bytes"] / 10
    assert "bristol" in customer.must("bundler", "site", "list", "--repository", customer.repository, *keys)
    # The box has the volumes already, so the small medium is enough for it.
    assert customer.install(tmp_path / "next", tmp_path / "state").returncode == 0


def test_what_changed_between_two_bundles_is_told(customer: Any, tmp_path: Path) -> None:
    """The FAQ entry that was added ships alone; the model's volumes are shared; an asset comes out as a plain file."""
    keys = ("--passphrase-file", customer.folder / "pass")
    found = json.loads(customer.must("bundler", "diff", customer.repository, "--json", *keys))
    changed = {change["path"] for change in found["assets"]}
    assert "faq/helpdesk/faq.jsonl" in changed
    assert not any(path.startswith("models/") for path in changed)
    entries = {change["path"]: change["entries"] for change in found["assets"]}
    assert entries["faq/helpdesk/faq.jsonl"] == ["+ Where is the lifeboat kept?"]
    assert found["shared_volumes"] >= 1
    assert found["new_volume_bytes"] < 5_000_000
    out = tmp_path / "out"
    customer.must("bundler", "export", customer.repository, out, "faq/helpdesk/faq.jsonl", *keys)
    assert "Where is the lifeboat kept?" in (out / "faq/helpdesk/faq.jsonl").read_text()


def test_settings_of_a_site_reach_the_box(customer: Any, tmp_path: Path) -> None:
    """Without a new bundle: the names of the box and the words of the last rung, signed and sealed to this site."""
    keys = ("--passphrase-file", customer.folder / "pass")
    state, usb = tmp_path / "state", tmp_path / "usb"
    shutil.copytree(customer.pristine, state, symlinks=True)
    copy = ("copy", customer.repository, usb, "--site", "bristol", "--full", *keys)
    customer.must("bundler", *copy)
    assert customer.install(usb, state).returncode == 0
    before = served_bundle(state)
    values = ("hosts=help.example, 10.0.0.9", "handoff=Ring 555-0100 and ask for Ada.")
    customer.must("bundler", "site", "set", "bristol", *values, "--repository", customer.repository, *keys)
    customer.must("bundler", *copy)
    done = customer.install(usb, state)
    assert done.returncode == 0, done.stderr
    assert served_bundle(state) == before + 1
    assert customer.install(usb, state).returncode == 0
    assert served_bundle(state) == before + 1  # the same settings again are no change
    with serving(customer, state, tmp_path) as box:
        headers = {"Authorization": f"Bearer {box.token}", "Host": "help.example", "Content-Type": "application/json"}
        body = json.dumps({"question": "Who won the football match last night?"}).encode()
        with urlopen(Request(f"{box.url}/v1/ask", body, headers)) as answer:
            assert "Ring 555-0100 and ask for Ada." in answer.read().decode()
