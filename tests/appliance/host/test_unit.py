"""The systemd unit: systemd itself finds nothing wrong with it, and little that is left open."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.host.unit import Service, options_of, unit_text
from bundler.format.errors import BadInput

SERVICE = Service(
    Path("/bin/true"), Path("/opt/lifeboat"), Path("/var/lib/lifeboat"), "root", "0.0.0.0", 8443, gpu=False
)
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
    ("changed", "words"),
    [
        ({"user": "a b"}, "--user 'a b' is not one plain word"),
        ({"host": "1.2.3.4\nExecStartPre=/bin/sh"}, "is not one plain word"),
        ({"state": Path("/home/lifeboat")}, "not a folder under /var/lib"),
        ({"state": Path("/var/lib")}, "not a folder under /var/lib"),
        ({"state": Path("/var/lib/../../etc/lifeboat")}, "not a folder under /var/lib"),
        ({"state": Path("/var/lib/$HOME")}, "is not one plain word"),
        ({"program": Path("bin/lifeboat-appliance")}, "not named by its full path"),
        ({"program": Path("/opt/../home/x/lifeboat-appliance")}, "not named by its full path"),
        ({"program": Path("/home/x/.venv/bin/lifeboat-appliance")}, "lies under /home, which the unit hides"),
        ({"program": Path("/root/venv/bin/lifeboat-appliance")}, "lies under /root, which the unit hides"),
        ({"program": Path("/tmp/venv/bin/lifeboat-appliance")}, "lies under /tmp, which the unit hides"),
        ({"programs": Path("opt")}, "not named by its full path"),
        ({"programs": Path("/opt/x y")}, "is not one plain word"),
        ({"names": ("box.example", "a b")}, "--name 'a b' is not one plain word"),
        ({"tls": (Path("/etc/tls/a.pem"), Path("/root/key.pem"))}, "lies under /root, which the unit hides"),
        ({"tls": (Path("a.pem"), Path("/etc/tls/key.pem"))}, "not named by its full path"),
    ],
)
def test_values_are_plain_words_and_places_that_it_sees(changed: dict[str, object], words: str) -> None:
    """Nothing that an operator types becomes another directive, or a service that cannot start; each has a way out."""
    with pytest.raises(BadInput) as refused:
        unit_text(replace(SERVICE, **changed))  # type: ignore[arg-type]
    assert words in refused.value.fact
    assert refused.value.hint


def test_the_options_are_read_back() -> None:
    """`doctor` asks the unit for its port and state."""
    found = options_of(unit_text(replace(SERVICE, port=9000)))
    assert found == {"programs": "/opt/lifeboat", "state": "/var/lib/lifeboat", "host": "0.0.0.0", "port": "9000"}
    assert options_of("[Service]\n") == {}
    files = {"tls-cert": "/etc/lifeboat/chain.pem", "tls-key": "/etc/lifeboat/key.pem"}
    named = replace(SERVICE, names=("box.example",), tls=tuple(map(Path, files.values())))
    told = options_of(unit_text(named))
    assert told == {**options_of(unit_text(SERVICE)), "name": "box.example", **files}


@pytest.mark.parametrize("words", [("--program", "/opt/lifeboat/1/bin/lifeboat-appliance"), ()])
def test_the_command_prints_the_unit_or_says_why_not(words: tuple[str, ...]) -> None:
    """A program that the service could not see is refused with its exit code."""
    command = [sys.executable, "-m", "appliance", "unit", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    hidden = any(Path(sys.executable).is_relative_to(folder) for folder in ("/home", "/root", "/tmp", "/var/tmp"))
    if words:
        assert f"ExecStart={words[1]} serve --state /var/lib/lifeboat" in done.stdout
    elif hidden:
        assert (done.returncode, "hint: install the program elsewhere" in done.stderr) == (3, True)


def test_the_unit_says_what_matters() -> None:
    """Started again for ever, watched, without core dumps or swap, and with nothing of the system to write to."""
    lines = unit_text(SERVICE).splitlines()
    for line in ("Restart=always", "StartLimitIntervalSec=0", "WatchdogSec=60", "LimitCORE=0", "MemorySwapMax=0"):
        assert line in lines
    assert "ProtectSystem=strict" in lines
