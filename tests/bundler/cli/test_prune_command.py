"""`lifeboat prune` as a person and as a job runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from click.testing import Result

from bundler.format.service import LadderSpec, LimitsSpec, Service
from bundler.repository.keyring import Keyring
from bundler.repository.publish import Publisher
from bundler.repository.survey import Captured
from bundler.repository.write import BundleWriter
from bundler.terminal import EXIT_INTERRUPTED, Terminal

SERVICE = Service(
    "demo", "Demo", (), None, (), (), (), (), LadderSpec((), (), (), "", "", ""), LimitsSpec(1, 1, 1), None, ()
)


def build(repository: Path, home: Path, work: Path, text: bytes) -> None:
    ring, now = Keyring(home, lambda: "correct horse"), datetime.now(UTC)
    work.write_bytes(text)
    captured = (Captured("faq/f", work, "faq", "", "file:f", (), 1 << 20),)
    BundleWriter(Publisher(repository, ring, now), ring, Terminal(quiet=True), 1 << 20).write(
        "d", captured, SERVICE, now
    )


def signed(repository: Path) -> dict[Path, bytes]:
    """Everything but the lock, which every command makes."""
    return {path: path.read_bytes() for path in repository.rglob("*") if path.is_file() and path.name != ".lock"}


def test_a_person_sees_it_first(
    lifeboat: Callable[..., Result], repository: Path, home: Path, passphrase: Path, tmp_path: Path
) -> None:
    """What stays and what goes is shown with the reason; a no removes nothing; a yes tells the bytes."""
    for text in (b"one", b"two", b"three"):
        build(repository, home, tmp_path / "faq", text * 9_000)
    words = ("prune", repository, "--passphrase-file", passphrase)
    before = signed(repository)
    refused = lifeboat(*words, answers="n\n")
    assert refused.exit_code == EXIT_INTERRUPTED
    assert "one of the 3 newest" in refused.output
    assert "goes   1-0001" in refused.output
    assert signed(repository) == before
    done = lifeboat(*words, answers="y\n")
    assert done.exit_code == 0
    assert "1 bundles removed, 3 kept" in done.output
    assert lifeboat(*words).output.startswith("nothing to remove")


def test_a_job_gets_json(
    lifeboat: Callable[..., Result], repository: Path, home: Path, passphrase: Path, tmp_path: Path
) -> None:
    """`--yes --json`: bytes and reasons as numbers and lists; less than one bundle cannot be kept."""
    for text in (b"one", b"two"):
        build(repository, home, tmp_path / "faq", text * 9_000)
    words = ("prune", repository, "--passphrase-file", passphrase, "--yes", "--json")
    found = json.loads(lifeboat(*words, "--keep", "1").stdout)
    assert len(found["removed"]) == 2
    assert found["kept"][0]["reasons"] == ["the newest"]
    assert 20_000 < found["freed_bytes"] < found["total_bytes"]
    assert found["shared_bytes"] == 0
    assert lifeboat(*words, "--keep", "0").exit_code == 2
