"""The systemd unit: systemd itself finds nothing wrong with it, and little that is left open."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.host.unit import Service, unit_text

SERVICE = Service(Path("/bin/true"), Path("/var/lib/lifeboat"), "root", "0.0.0.0", 8443, gpu=False)
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


@needs_systemd
@pytest.mark.parametrize("gpu", [False, True])
def test_systemd_verifies_the_unit(tmp_path: Path, gpu: bool) -> None:
    """No unknown directive, no value that it ignores."""
    unit = tmp_path / "lifeboat.service"
    unit.write_text(unit_text(replace(SERVICE, gpu=gpu)))
    words = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "lifeboat.service" not in done.stderr


@needs_systemd
@pytest.mark.parametrize(("gpu", "most"), [(False, 1.5), (True, 2.0)])
def test_little_is_left_open(tmp_path: Path, gpu: bool, most: float) -> None:
    """The measure of systemd itself of exposure, from 0 (best) to 10."""
    unit = tmp_path / "lifeboat.service"
    unit.write_text(unit_text(replace(SERVICE, gpu=gpu, user="lifeboat")))
    words = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={int(most * 10)}", str(unit)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-300:]


@pytest.mark.parametrize(
    "changed",
    [
        {"user": "a b"},
        {"host": "1.2.3.4\nExecStartPre=/bin/sh"},
        {"state": Path("/home/lifeboat")},
        {"state": Path("/var/lib")},
        {"program": Path("bin/lifeboat-appliance")},
        {"state": Path("/var/lib/$HOME")},
    ],
)
def test_values_are_plain_words(changed: dict[str, object]) -> None:
    """Nothing that an operator types becomes another directive."""
    with pytest.raises(ValueError, match=r"must be absolute|plain words"):
        unit_text(replace(SERVICE, **changed))  # type: ignore[arg-type]


def test_the_unit_says_what_matters() -> None:
    """Started again for ever, watched, without core dumps or swap, and with nothing of the system to write to."""
    lines = unit_text(SERVICE).splitlines()
    for line in ("Restart=always", "StartLimitIntervalSec=0", "WatchdogSec=60", "LimitCORE=0", "MemorySwapMax=0"):
        assert line in lines
    assert "ProtectSystem=strict" in lines
