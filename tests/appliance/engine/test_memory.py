from __future__ import annotations

from pathlib import Path

import pytest

from appliance.engine import memory


@pytest.mark.parametrize(
    ("limits", "most_bytes"),
    [
        ({}, 900_000),
        ({"memory.max": "max"}, 900_000),
        ({"memory.max": "500000"}, 450_000),
        ({"memory.max": "800000", "box/memory.max": "600000"}, 540_000),
        ({"box/memory.max": "2000000"}, 900_000),
    ],
)
def test_the_tightest_limit_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, str], most_bytes: int
) -> None:
    """Nine tenths of the machine, or of the least that a cgroup around the process allows."""
    (tmp_path / "box").mkdir()
    for name, text in limits.items():
        (tmp_path / name).write_text(text + "\n")
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "_own_group", lambda: "/box")
    monkeypatch.setattr(memory, "_machine_bytes", lambda: 1_000_000)
    assert memory.most_memory_bytes() == most_bytes


def test_this_machine_has_some() -> None:
    """The real files of /proc and /sys are read."""
    assert memory.most_memory_bytes() > 2**28
