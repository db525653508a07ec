from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bundler.repository.keyring import Keyring, Msp
from bundler.repository.publish import Publisher
from bundler.repository.roots import Roots, first_root

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
QUICK = 10  # scrypt work factor of tests


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    ring = Keyring(tmp_path / "home", lambda: "correct horse")
    ring.create(Msp("Northquay", "ab" * 16), QUICK)
    Roots(ring.home).add(first_root(ring, NOW), NOW)
    return ring


@pytest.fixture
def publisher(tmp_path: Path, keyring: Keyring) -> Publisher:
    made = Publisher(tmp_path / "repo", keyring, NOW)
    made.create(("https://api.example.com:443",))
    return made


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a test publish as a thief would: our own builder reads what it made before it writes it."""
    monkeypatch.setattr(Publisher, "_check", lambda *_: None)


@pytest.fixture
def flip() -> Callable[[Path, int], None]:
    def flip_byte(path: Path, place: int) -> None:
        data = bytearray(path.read_bytes())
        data[place % len(data)] ^= 1
        path.write_bytes(data)

    return flip_byte
