from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient.config import UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface
from tuf.ngclient.updater import Updater

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


class Folder(FetcherInterface):
    """Fetches from a folder; what is not there is a 404."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = self._root / urlsplit(url).path.lstrip("/")
        if not path.is_file():
            raise DownloadHTTPError(f"{path} is not there", 404)
        yield path.read_bytes()


@pytest.fixture(scope="session")
def their_client() -> Callable[[Path, bytes, Path], Updater]:
    """Makes python-tuf's own client of a repository: it starts from a root, and keeps in a folder what it has seen."""

    def client(repository: Path, root: bytes, local: Path) -> Updater:
        files = local / "files"
        files.mkdir(parents=True, exist_ok=True)
        config, places = UpdaterConfig(prefix_targets_with_hash=False), ("file:///metadata/", str(files), "file:///")
        return Updater(str(local), *places, Folder(repository), config, bootstrap=root)

    return client
