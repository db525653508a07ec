"""What every trick is held to: refused in words, nothing executed, nothing left, in bounded time."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bundler.format.errors import BadInput, BadInputs


class _Runs:
    """Unpickled, it runs a shell: the canary of this set."""

    def __init__(self, canary: Path) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (f"touch {self._canary}",))


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file that appears when a trick has run something."""
    return tmp_path / "executed"


@pytest.fixture
def poison(canary: Path) -> bytes:
    """A pickle that makes the canary; it is proven to bite."""
    data = pickle.dumps(_Runs(canary), protocol=2)
    pickle.loads(data)
    assert canary.exists()
    canary.unlink()
    return data


@pytest.fixture
def refused(tmp_path: Path, canary: Path) -> Iterator[Callable[..., str]]:
    """Calls a check on a trick: BadInput with the words, the folder as it was, no canary, no child left."""

    def hold(check: Callable[[], object], words: str) -> str:
        before = sorted(tmp_path.rglob("*"))
        children = _children()
        with pytest.raises(BadInput, match=words) as caught:
            check()
        assert sorted(tmp_path.rglob("*")) == before
        assert _children() == children
        issues = caught.value.issues if isinstance(caught.value, BadInputs) else ()
        return "\n".join([caught.value.fact, *issues])

    yield hold
    assert not canary.exists(), "a trick has run something"


def _children() -> set[str]:
    return set(Path("/proc/self/task").joinpath(str(os.getpid()), "children").read_text().split())
