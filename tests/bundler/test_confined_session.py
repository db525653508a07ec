"""The wire to the embedding model's child: whatever comes over it is a clear error, and no child is left."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundler import confine, confined_session
from bundler.confine import Confinement
from bundler.confined_session import Session
from bundler.embedding import child
from bundler.embedding.child import ConfinedEncoder
from bundler.format.errors import BadInput

HERE = Path(__file__).parent
Make = Callable[[str, str], ConfinedEncoder]


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Every child that is started."""
    started: list[subprocess.Popen[bytes]] = []
    start = confine.start_child

    def noting(*words: Any) -> subprocess.Popen[bytes]:
        started.append(start(*words))
        return started[-1]

    monkeypatch.setattr(confined_session, "start_child", noting)
    return started


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, children: list[subprocess.Popen[bytes]]) -> Make:
    """Returns the encoder whose child behaves in this way; `children` notes it."""
    monkeypatch.syspath_prepend(str(HERE))
    (tmp_path / "file").write_bytes(b"foreign")

    def made(target: str, how: str) -> ConfinedEncoder:
        class Hostile(Session):
            def __init__(
                self, _: str, request: Mapping[str, Any], inputs: Mapping[str, Path], limits: Confinement, subject: str
            ) -> None:
                limits = replace(limits, wall_s=2.0 if (target, how) == ("before", "hang") else 30.0)
                super().__init__(f"session_targets:{target}", {**request, "how": how}, inputs, limits, subject)

        monkeypatch.setattr(child, "Session", Hostile)
        return ConfinedEncoder(tmp_path / "file", tmp_path / "file", max_tokens=16, threads=1)

    return made


def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_START_S", 1.0)
    monkeypatch.setattr(child, "_TEXT_S", 0.0)


def test_a_child_that_behaves_is_heard(make: Make, children: list[subprocess.Popen[bytes]]) -> None:
    """The same child, well behaved, so that the refusals below are of what it does."""
    encoder = make("after", "well")
    assert np.array_equal(encoder.embed(["a", "b"]), np.ones((2, 4), np.float32))
    assert encoder.embed_passages([]).shape == (0, 4)
    assert encoder.count_tokens("a") == 7
    encoder.close()
    assert [child.poll() is not None for child in children] == [True]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("garbage", "says nothing of itself that could be read"),
        ("another", "says nothing of itself that could be read"),
        ("nested", "says nothing of itself that could be read"),
        ("long", "an answer of 9223372036854775808 bytes, at most 4096 were expected"),
        ("hang", "no answer in the time that it may take"),
        ("raise", "no graph that I know"),
    ],
)
def test_a_bad_beginning_is_refused(make: Make, children: list[subprocess.Popen[bytes]], how: str, told: str) -> None:
    """A child that does not say what it is never becomes an encoder."""
    with pytest.raises(BadInput, match=told):
        make("before", how)
    assert [child.poll() is not None for child in children] == [True]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("fewer", "the embedding model answers 2 texts with 16 bytes"),
        ("more", "an answer of 48 bytes, at most 32 were expected"),
        ("nan", "values that are not finite"),
        ("half", "ended with signal SIGABRT"),
        ("raise", "this text is too much for me"),
        ("leave", "ended with exit code 0"),
        ("hang", "no answer in the time that it may take"),
        ("deaf", "no answer in the time that it may take"),
    ],
)
def test_a_bad_answer_is_refused(
    make: Make, children: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch, how: str, told: str
) -> None:
    """Too short, too long, no numbers, cut off by a crash, or none; after that the child is gone, and stays it."""
    encoder = make("after", how)
    if how in ("hang", "deaf"):
        _quick(monkeypatch)
    texts = ["a", "b" * (2**20 if how == "deaf" else 1)]  # more than a pipe holds
    with pytest.raises(BadInput, match=told):
        encoder.embed(texts)
    assert [child.poll() is not None for child in children] == [True]


@pytest.mark.parametrize("how", ["count", "words"])
def test_tokens_that_are_no_number_are_refused(make: Make, children: list[subprocess.Popen[bytes]], how: str) -> None:
    """JSON of another kind, and what is no JSON."""
    encoder = make("after", how)
    with pytest.raises(BadInput, match="counts tokens as no number"):
        encoder.count_tokens("a")
    assert [child.poll() is not None for child in children] == [True]
