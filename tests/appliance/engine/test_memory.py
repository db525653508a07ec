from __future__ import annotations

from pathlib import Path

import pytest

from appliance.engine import memory
from appliance.engine.machine import group_limit_bytes

V1 = "5:cpu,cpuacct:/box\n4:memory:/box\n1:name=systemd:/box\n"
V2 = "0::/box\n"
HYBRID = "4:memory:/box\n0::/box\n"
NONE = str(2**63 - 4096)


@pytest.mark.parametrize(
    ("groups", "limits", "most_bytes"),
    [
        (V2, {}, 900_000),
        (V2, {"memory.max": "max"}, 900_000),
        (V2, {"memory.max": "500000"}, 450_000),
        (V2, {"memory.max": "800000", "box/memory.max": "600000"}, 540_000),
        (V2, {"box/memory.max": "2000000"}, 900_000),
        (V1, {"memory/memory.limit_in_bytes": NONE}, 900_000),
        (V1, {"memory/memory.limit_in_bytes": "500000"}, 450_000),
        (V1, {"memory/memory.limit_in_bytes": NONE, "memory/box/memory.limit_in_bytes": "600000"}, 540_000),
        (V1, {"cpu/box/memory.limit_in_bytes": "1"}, 900_000),
        (V1, {"box/memory.max": "1"}, 900_000),
        (HYBRID, {"memory/box/memory.limit_in_bytes": "700000"}, 630_000),
        (HYBRID, {"unified/box/memory.max": "400000", "memory/box/memory.limit_in_bytes": "700000"}, 360_000),
        ("", {"box/memory.max": "1"}, 900_000),
    ],
)
def test_the_tightest_limit_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str, limits: dict[str, str], most_bytes: int
) -> None:
    """Nine tenths of the machine, or of the least that a control group around the process allows, of either version."""
    tree, own = tmp_path / "cgroup", tmp_path / "own"
    own.write_text(groups)
    for name, text in limits.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text + "\n")
    monkeypatch.setattr(memory, "_CGROUPS", tree)
    monkeypatch.setattr(memory, "_OWN_GROUPS", own)
    monkeypatch.setattr(memory, "_machine_bytes", lambda: 1_000_000)
    assert memory.most_memory_bytes() == most_bytes


@pytest.mark.parametrize(
    ("text", "limit"),
    [("max\n", None), ("1048576\n", 1048576), (NONE, None), ("-1", None), ("", None), (None, None), ("0", 0)],
)
def test_the_words_for_no_limit(text: str | None, limit: int | None) -> None:
    """Version 2 says `max`, version 1 a number near 2**63, and a file that is not there says nothing."""
    assert group_limit_bytes(text) == limit


def test_this_machine_has_some() -> None:
    """The real files of /proc and /sys are read."""
    assert memory.most_memory_bytes() > 2**28
