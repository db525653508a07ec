"""A whole customer, made once by the programs themselves: keyring, two bundles, a site, and a box with the first."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


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


def linked_copy(source: Path, target: Path) -> Path:
    """Copies a tree by hard links; a test that changes a file must replace it. Locks would be shared: `run` stays."""
    shutil.copytree(source, target, symlinks=True, copy_function=os.link, ignore=shutil.ignore_patterns("run"))
    return target


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
    made.must("bundler", *build)
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
