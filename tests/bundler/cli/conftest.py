"""The program as a user runs it, but in this process: a home whose keys open fast, and a customer's repository."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bundler.cli import main
from bundler.format.service import LadderSpec, LimitsSpec, Service
from bundler.repository.copy import copy_for_sites
from bundler.repository.keyring import Keyring, Msp
from bundler.repository.publish import Publisher
from bundler.repository.roots import Roots, first_root
from bundler.repository.sites import add_site
from bundler.repository.survey import Captured
from bundler.repository.write import BundleWriter
from bundler.terminal import Terminal

PASSPHRASE = "correct horse"
QUICK = 10  # scrypt work factor of tests
SERVICE = Service(
    "demo", "Demo", (), None, (), (), (), (), LadderSpec((), (), (), "", "", ""), LimitsSpec(1, 1, 1), None, ()
)


@pytest.fixture
def lifeboat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs one command; nobody answers a question, and what is no clean end comes out as it was raised."""
    monkeypatch.setenv("LIFEBOAT_HOME", str(tmp_path / "home"))

    def run(*words: str | Path, answers: str = "") -> Result:
        return CliRunner().invoke(main, [*map(str, words)], input=answers, catch_exceptions=False)

    return run


@pytest.fixture
def passphrase(tmp_path: Path) -> Path:
    """The file with the passphrase of the home."""
    file = tmp_path / "passphrase"
    file.write_text(f"{PASSPHRASE}\n")
    return file


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with keys and a first root."""
    now, ring = datetime.now(UTC), Keyring(tmp_path / "home", lambda: PASSPHRASE)
    ring.create(Msp("Northquay", "ab" * 16), QUICK)
    Roots(ring.home).add(first_root(ring, now), now)
    return ring.home


@pytest.fixture
def repository(tmp_path: Path, home: Path) -> Path:
    """A repository with one site and one bundle."""
    now, ring = datetime.now(UTC), Keyring(home, lambda: PASSPHRASE)
    publisher = Publisher(tmp_path / "repository", ring, now)
    publisher.create()
    add_site(publisher, ring, publisher.policy().repository, "bristol", work_factor_log2=QUICK)
    (tmp_path / "content").write_bytes(b"answers")
    captured = (Captured("content", tmp_path / "content", "texts", "", "file:content", (), 1 << 20),)
    BundleWriter(publisher, ring, Terminal(quiet=True), 1 << 20).write("demo", captured, SERVICE, now)
    return publisher.folder


@pytest.fixture
def medium(tmp_path: Path, repository: Path) -> Path:
    """A medium with what the site needs."""
    now, ring = datetime.now(UTC), Keyring(repository.parent / "home", lambda: PASSPHRASE)
    publisher = Publisher(repository, ring, now)
    copy_for_sites(publisher, ring, ["bristol"], tmp_path / "usb", Terminal(quiet=True), now=now)
    return tmp_path / "usb"
