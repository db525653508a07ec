"""A place to fetch to, a registry to push to, and a hub's faults by short words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundler.lock import Pin
from bundler.sources import hub
from bundler.sources.hub_patience import HubPatience
from bundler.sources.place import Place
from bundler.sources.source import Fetched, HubSource, parse

# As patient as the program, in less time.
QUICK = HubPatience(
    first_s=0.01, most_s=0.05, asked_most_s=2.0, connect_s=2.0, silence_s=0.5, slow_s=0.5, slow_bytes=1000
)


@pytest.fixture
def quick() -> HubPatience:
    return QUICK


@pytest.fixture
def fault(load_script: Callable[[str], Any]) -> Any:
    """`Fault` of `scripts/hub_faults.py`."""
    return load_script("hub_faults").Fault


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "work").mkdir()
    return Place(tmp_path, tmp_path / "cache", tmp_path / "wheels", tmp_path / "work")


@pytest.fixture
def front(registry: Any) -> Any:
    """A front that counts, before the registry."""
    found = registry.front()
    found.reset()
    return found


@pytest.fixture
def push(registry: Any, load_script: Any, request: pytest.FixtureRequest) -> Any:
    """Pushes to a repository of this test's own."""
    name = "".join(letter for letter in request.node.name.lower() if letter.isalnum())
    return load_script("oci_images").Pusher(registry.host, name)


@pytest.fixture
def pull(local_hub: Any, place: Place, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Fetched]:
    """Fetches a source from the local hub, quickly: `pull("hub:org/name/file", place=..., token=...)`."""
    monkeypatch.setenv("HF_ENDPOINT", local_hub.endpoint)
    monkeypatch.delenv("HF_TOKEN", raising=False)

    def pulled(text: str, where: Place = place) -> Fetched:
        source = parse(text)
        assert isinstance(source, HubSource)
        return hub.fetch(source, where, QUICK)

    return pulled


@pytest.fixture
def pinned() -> Callable[..., Pin]:
    """The pin that a lock has of what was delivered."""

    def pin(fetched: Fetched) -> Pin:
        return Pin(fetched.length_bytes, fetched.sha256, fetched.resolved)

    return pin
