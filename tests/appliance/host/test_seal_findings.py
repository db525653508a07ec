"""What the box says of its seal, of swap and of hibernation."""

import itertools
from pathlib import Path

import pytest

from appliance.host import seal_findings
from appliance.host.finding import BAD, GOOD, WARN
from appliance.host.seal_findings import examine_seal, hibernation_finding, protection, swap_finding
from appliance.store.layout import StateLayout
from appliance.store.seal import Seal, SiteSecrets
from appliance.store.slots import KEY_FILE, Slots
from appliance.store.systemd_creds import HOST, TPM2

SITE = SiteSecrets("bristol", "msp", "repo", "a" * 64, "AGE-SECRET-KEY-1", "b" * 64, "c" * 64)
HEAD = "Filename\tType\tSize\tUsed\tPriority\n"
DISK, ZRAM = f"{HEAD}/dev/sda2 partition 1 0 -2\n", f"{HEAD}/dev/zram0 partition 1 0 100\n"


@pytest.mark.parametrize(
    ("machine", "passphrase", "protects", "alone", "words"),
    [
        ((KEY_FILE,), False, False, True, "key file on the same disk"),
        ((HOST,), False, False, True, "host key on the same disk"),
        ((TPM2,), False, True, True, "a pulled disk tells nothing"),
        ((HOST, TPM2), False, True, True, "a pulled disk tells nothing"),
        ((), True, True, False, "who does not know it"),
        (("unknown",), False, False, True, "unknown kind"),
        ((KEY_FILE,), True, False, True, "key file on the same disk"),
    ],
)
def test_what_each_slot_means(
    machine: tuple[str, ...], passphrase: bool, protects: bool, alone: bool, words: str
) -> None:
    """What a pulled disk tells, and whether somebody must come after a power cut."""
    told = protection(Slots(machine, recovery=True, passphrase=passphrase))
    assert (told.protects, told.alone) == (protects, alone)
    assert words in told.disk
    assert ("NOT answer" in told.power_cut) is not alone


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StateLayout:
    made = StateLayout(tmp_path / "state")
    made.make()
    monkeypatch.setattr(seal_findings, "UNIT_FILE", tmp_path / "lifeboat.service")
    Seal(made.keys).store(SITE)
    return made


def test_a_key_file_and_no_recovery_are_told(layout: StateLayout) -> None:
    """Two warnings with their way out, and one line on power cuts."""
    found = {finding.subject: finding for finding in examine_seal(layout)}
    assert found.keys() == {"seal", "power cut", "recovery"}
    assert (found["seal"].state, found["power cut"].state, found["recovery"].state) == (WARN, GOOD, WARN)
    assert all(finding.hint for finding in found.values() if finding.state != GOOD)


@pytest.mark.parametrize(
    ("unit", "bad"),
    [
        (None, False),
        ("[Service]\nExecStart=x\n", True),
        ("[Service]\nLoadCredentialEncrypted=lifeboat-seal:/x/machine.cred\n", False),
    ],
)
def test_a_unit_that_does_not_pass_the_credential_is_bad(layout: StateLayout, unit: str | None, bad: bool) -> None:
    """A box that would be dark after the next boot says so now."""
    folder = Seal(layout.keys).folder
    (folder / "machine.key").rename(folder / "machine.cred")
    if unit is not None:
        (layout.root.parent / "lifeboat.service").write_text(unit)
    assert (BAD in {finding.state for finding in examine_seal(layout)}) is bad


def test_swap_is_told_where_it_lies_on_a_disk() -> None:
    """A zram device is memory; a partition or a file is not."""
    assert swap_finding(HEAD).state == GOOD
    assert swap_finding(ZRAM).state == GOOD
    assert swap_finding(DISK).state == WARN
    assert "/dev/sda2" in swap_finding(DISK).fact


@pytest.mark.parametrize(
    ("swaps", "line", "states"),
    list(itertools.product((HEAD, ZRAM, DISK), ("quiet", "resume=/dev/sda2"), ("", "freeze mem disk"))),
)
def test_hibernation_is_told_where_it_can_happen(swaps: str, line: str, states: str) -> None:
    """The kernel must have it, and there must be a place for the image."""
    found = hibernation_finding(swaps, line, states)
    assert (found.state == WARN) is ("disk" in states and (swaps == DISK or "resume" in line))
