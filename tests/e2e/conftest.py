"""A whole customer, made once by the programs themselves: keyring, two bundles, a site, and a box with the first."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from appliance.store import current, versions
from appliance.store.layout import StateLayout
from appliance.store.seal import Seal
from appliance.store.unpacking import MARKER
from bundler.format.bundle import Bundle


@dataclass(frozen=True)
class Box:
    """A box that serves, and a token for it."""

    url: str
    token: str

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Posts a body, or gets what lies there where there is none; returns the object that comes back."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(f"{self.url}{path}", data, headers), timeout=120) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def wait_for_engines(self) -> None:
        """Waits until every model of the version is ready."""
        for _ in range(600):
            with suppress(HTTPError):
                engines = self.ask("/health/ready")["engines"]
                if engines and all(engine["state"] == "ready" for engine in engines):
                    return
            time.sleep(0.1)
        raise AssertionError("the models are not ready after a minute")


@dataclass(frozen=True)
class Customer:
    """Folders and the site code of one customer."""

    folder: Path
    code: Path

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    @property
    def first(self) -> Path:
        """The repository as it was with its first bundle."""
        return self.folder / "first"

    @property
    def recovery(self) -> Path:
        """A file with the code of the recovery card."""
        return self.folder / "recovery"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def pristine(self) -> Path:
        """The state as it was right after the first bundle was installed."""
        return self.folder / "pristine"

    def run(self, program: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Runs `bundler` or `appliance` as a user would; nothing is checked."""
        environment = {**os.environ, "LIFEBOAT_HOME": str(self.folder / "home"), "NO_COLOR": "1"}
        command = [sys.executable, "-m", program, *map(str, words)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)

    def must(self, program: str, *words: str | Path) -> str:
        done = self.run(program, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def install(self, repository: Path, state: Path) -> subprocess.CompletedProcess[str]:
        words = ("install", repository, "--state", state, "--site", "bristol", "--site-code-file", self.code)
        return self.run("appliance", *words)

    @contextmanager
    def serving(self, state: Path) -> Iterator[Box]:
        """Runs a box until the block ends; its models may still be loading."""
        token = json.loads(self.must("appliance", "token", "create", "test", "--state", state, "--json"))["token"]
        url, log = state.with_name(f"{state.name}-url"), state.with_name(f"{state.name}-log")
        url.unlink(missing_ok=True)
        words = ["serve", "--state", str(state), "--port", "0", "--port-file", str(url)]
        with log.open("wb") as output:
            process = subprocess.Popen([sys.executable, "-m", "appliance", *words], stdout=output, stderr=output)
        try:
            for _ in range(1_200):  # two minutes
                if url.exists() and url.read_text():
                    break
                assert process.poll() is None, log.read_text()
                time.sleep(0.1)
            else:
                raise AssertionError(log.read_text())
            yield Box(url.read_text().strip(), token)
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture(scope="session")
def make_customer() -> Callable[[Path], Customer]:
    """Makes a customer of a folder; nothing is in it yet."""
    return lambda folder: Customer(folder, folder / "code")


def linked_copy(source: Path, target: Path) -> Path:
    """Copies a tree by hard links; a test that changes a file must replace it. Locks would be shared: `run` stays."""
    shutil.copytree(source, target, symlinks=True, copy_function=os.link, ignore=shutil.ignore_patterns("run"))
    return target


def _script(path: Path) -> Any:
    """Returns a module of scripts/, which are no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their own module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def variants(repo_root: Path) -> Any:
    """`scripts/variants.py`: versions that go wrong on purpose."""
    return _script(repo_root / "scripts" / "variants.py")


@pytest.fixture(scope="session")
def box_load(repo_root: Path) -> Any:
    """`scripts/box_load.py`: clients that ask without a pause."""
    return _script(repo_root / "scripts" / "box_load.py")


@pytest.fixture(scope="session")
def memory_groups(repo_root: Path) -> Any:
    """`scripts/memory_group.py`: control groups with little memory."""
    return _script(repo_root / "scripts" / "memory_group.py")


@pytest.fixture(scope="session")
def customer(
    tmp_path_factory: pytest.TempPathFactory, repo_root: Path, wheelhouse: Path, smollm_gguf: Path
) -> Iterator[Customer]:
    folder = tmp_path_factory.mktemp("customer")
    made = Customer(folder, folder / "code")
    (folder / "pass").write_text("correct horse\n")
    profiles = shutil.copytree(repo_root / "profiles", folder / "profiles")
    keys = ("--passphrase-file", folder / "pass")
    build = ("build", profiles / "demo.toml", "--repository", made.repository, "--wheels", wheelhouse, "--yes", *keys)
    made.must("bundler", "init", "--name", "Northquay", *keys)
    made.recovery.write_text(json.loads(made.must("bundler", *build, "--json"))["recovery_code"])
    site = made.must("bundler", "site", "add", "bristol", "--repository", made.repository, "--json", *keys)
    made.code.write_text(json.loads(site)["code"])
    linked_copy(made.repository, made.first)
    installed = made.install(made.first, made.state)
    assert installed.returncode == 0, installed.stderr
    linked_copy(made.state, made.pristine)
    faq = profiles / "demo" / "faq.jsonl"
    faq.write_text(
        faq.read_text() + json.dumps({"id": "new", "question": "Where is the lifeboat kept?", "answer": "On deck."})
    )
    made.must("bundler", *build)
    yield made
    shutil.rmtree(folder)


@dataclass
class Running:
    """A box that serves a state of its own, and a maker of its versions."""

    url: str
    token: str
    layout: StateLayout
    process: subprocess.Popen[bytes]
    log: Path
    programs: Path
    maker: Any

    @staticmethod
    def wait_for(look: Callable[[], bool | None]) -> bool:
        """Returns what a look finds once that is not None."""
        end = time.monotonic() + 180
        while time.monotonic() < end:
            found = look()
            if found is not None:
                return found
            time.sleep(0.1)
        raise AssertionError("nothing happened")

    def settled(self, number: int) -> bool:
        """Waits until a proposed version serves or is given up; returns whether it serves."""

        def look() -> bool | None:
            if current.given_up(self.layout, number) is not None:
                return False
            return current.current_number(self.layout) == number or None

        return self.wait_for(look)

    def refused(self, number: int) -> str:
        """Waits until a proposed version is given up, and returns why; one that serves is a failure."""
        assert not self.settled(number)
        why = current.given_up(self.layout, number)
        assert why is not None
        assert why.what == "refused"
        return why.reason

    def program(self, name: str, script: str) -> None:
        """Installs a version of the program: a script in place of its interpreter."""
        path = self.programs / name / "bin" / "python"
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        (self.programs / name / MARKER).write_text("{}")

    def ready(self) -> dict[str, Any]:
        request = Request(f"{self.url}/health/ready", headers={"Authorization": f"Bearer {self.token}"})
        with urlopen(request) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    @property
    def bundle(self) -> Bundle:
        """What serves, opened; to be closed."""
        secrets = Seal(self.layout.keys).open()
        return versions.open_version(self.layout, secrets, versions.read_current(self.layout, secrets))


@pytest.fixture
def serve(customer: Customer, variants: Any, tmp_path: Path) -> Callable[..., Any]:
    """Serves a copy of the first version's state, with `serve(prepare=..., wrap=...) as box`.

    `prepare` gets the maker of versions before the box starts; `wrap` changes the command line.
    """

    @contextmanager
    def served(
        prepare: Callable[[Any], object] = lambda _: None, wrap: Callable[[list[str]], list[str]] = list
    ) -> Iterator[Running]:
        shutil.copytree(customer.pristine, tmp_path / "state", symlinks=True)
        layout = StateLayout(tmp_path / "state")
        layout.make()
        words = ("token", "create", "served", "--state", layout.root, "--json")
        token = json.loads(customer.must("appliance", *words))["token"]
        maker = variants.Maker(layout)
        prepare(maker)
        url, log, programs = tmp_path / "url", tmp_path / "log", tmp_path / "programs"
        options = ("--state", layout.root, "--port", "0", "--port-file", url, "--programs", programs)
        command = wrap([sys.executable, "-m", "appliance", "serve", *map(str, options)])
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            Running.wait_for(lambda: url.exists() or None)
            box = Running(url.read_text().strip(), token, layout, process, log, programs, maker)
            box.wait_for(lambda: all(engine["state"] == "ready" for engine in box.ready()["engines"]) or None)
            yield box
        finally:
            process.terminate()
            process.wait(60)

    return served


@pytest.fixture
def kill_all() -> Callable[[int], None]:
    """SIGKILLs a process and everything below it, so that nobody tidies up."""

    def kill(pid: int) -> None:
        below = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        os.kill(pid, signal.SIGKILL)
        for one in below:
            kill(one)

    return kill


@pytest.fixture(scope="session")
def runtime_houses(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes the whole program of this checkout as wheels, by version; what is fetched for it stays in `.cache`."""
    folder = tmp_path_factory.mktemp("runtimes")

    def make(version: str) -> Path:
        words = [sys.executable, str(repo_root / "scripts" / "make_runtime"), str(folder / version)]
        subprocess.run([*words, "--version", version, "--native"], check=True, timeout=280)
        return folder / version

    return make
