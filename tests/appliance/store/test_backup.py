"""A backup: for the recovery site only, handed on to the site, and back onto an empty state."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from appliance.edge.tokens import TokenStore
from appliance.host.authority import box_authority
from appliance.store.backup import back_up, read_backup, restorer
from appliance.store.layout import StateLayout
from appliance.store.seal import Seal, SiteSecrets
from appliance.store.secrets import Secrets
from bundler.format import age, canonical
from bundler.format.backup import BACKUP_BYTES, Backup, open_backup, seal_backup
from bundler.format.errors import BadBundle, BadInput, NewerFormat, NoSpace, NotReady, WrongKey
from bundler.format.record import to_json
from bundler.format.site import Enrolment
from bundler.repository.recovery import hand_on_backup, unseal
from bundler.terminal import Terminal

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def parties(suite: str) -> tuple[Enrolment, SiteSecrets]:
    """The recovery site of an MSP, and one customer's site."""
    recovery, site = age.generate_identity(suite), age.generate_identity(suite)
    enrolment = Enrolment("a" * 64, "msp", "d" * 32, "recovery", str(recovery), "b" * 64)
    secrets = SiteSecrets("bristol", "msp", "d" * 32, "a" * 64, str(site), "e" * 64, "c" * 64)
    return enrolment, replace(secrets, recovery=str(recovery.recipient))


@pytest.fixture(params=age.SUITES)
def msp(request: pytest.FixtureRequest) -> tuple[Enrolment, SiteSecrets]:
    return parties(request.param)


@pytest.fixture
def layout(tmp_path: Path, msp: tuple[Enrolment, SiteSecrets]) -> StateLayout:
    made = StateLayout(tmp_path / "state")
    made.make()
    Seal(made.keys).store(msp[1])
    Secrets(Seal(made.keys)).put("cloud", "sk-1")
    box_authority(Seal(made.keys), "bristol", NOW)
    TokenStore(made.tokens).create("desk", now_s=1)
    (made.trust / "root.json").write_bytes(b"root")
    (made.trust / "remembered.json").write_bytes(b"remembered")
    return made


def test_only_the_recovery_site_opens_it(
    layout: StateLayout, msp: tuple[Enrolment, SiteSecrets], tmp_path: Path
) -> None:
    """Not the site's own key, nor the seal's: whoever has the box has no older backup of it."""
    path = tmp_path / "backup.age"
    done = back_up(layout, path, NOW)
    assert path.stat().st_mode & 0o077 == 0
    assert done.files == (
        "sealed/authority", "sealed/secrets", "sealed/site", "tokens.json", "trust/remembered.json", "trust/root.json",
    )  # fmt: skip
    for identity in (age.parse_identity(msp[1].identity), age.parse_identity(Seal(layout.keys).key())):
        with pytest.raises(WrongKey):
            open_backup(path.read_bytes(), identity)
    with pytest.raises(WrongKey) as refused:
        restorer(path, Terminal(quiet=True))(msp[1], True)
    assert "lifeboat site restore" in refused.value.hint
    assert open_backup(path.read_bytes(), age.parse_identity(msp[0].identity)).site == "bristol"


def handed_on(layout: StateLayout, recovery: Enrolment, tmp_path: Path) -> bytes:
    back_up(layout, tmp_path / "backup.age", NOW)
    return hand_on_backup(tmp_path / "backup.age", recovery, "bristol")[1]


def test_what_was_handed_on_brings_everything_back(
    layout: StateLayout, msp: tuple[Enrolment, SiteSecrets], tmp_path: Path
) -> None:
    """With what the card gives, a fresh secret under versions included: all as it was."""
    enrolled = replace(msp[1], version_secret="f" * 64)
    found = read_backup(handed_on(layout, msp[0], tmp_path), enrolled)
    contents = Seal(layout.keys).contents()
    assert found.secrets == msp[1]
    assert found.sealed == {name: contents[name] for name in ("authority", "secrets")}
    assert found.trust == {"root.json": b"root", "remembered.json": b"remembered"}
    assert found.tokens == layout.tokens.read_bytes()
    assert "sk-1" not in repr(found)


def test_a_backup_of_another_site_or_repository_is_refused(
    layout: StateLayout, msp: tuple[Enrolment, SiteSecrets], tmp_path: Path
) -> None:
    """By the builder, and by a box that was given the file all the same."""
    data = handed_on(layout, msp[0], tmp_path)
    with pytest.raises(BadInput, match="of site bristol, not leeds"):
        hand_on_backup(tmp_path / "backup.age", msp[0], "leeds")
    with pytest.raises(WrongKey, match="is of repository dddd"):
        hand_on_backup(tmp_path / "backup.age", replace(msp[0], repository="1" * 32), "bristol")
    with pytest.raises(WrongKey, match="does not open"):
        hand_on_backup(tmp_path / "backup.age", parties(age.CLASSIC_SUITE)[0], "bristol")
    with pytest.raises(WrongKey, match="not for site leeds"):
        read_backup(data, replace(parties(age.CLASSIC_SUITE)[1], site="leeds"))
    with pytest.raises(WrongKey, match="is of site bristol"):
        read_backup(data, replace(msp[1], site="leeds"))


def test_a_backup_that_somebody_made_is_refused(msp: tuple[Enrolment, SiteSecrets]) -> None:
    """Recipients are no secrets: without the site's report secret nobody plants a token or a CA."""
    recipient = age.parse_identity(msp[1].identity).recipient
    planted = Backup.of(msp[1].repository, "bristol", str(recipient), "now", {"tokens.json": b"{}"})
    with pytest.raises(BadBundle, match="not made by a box of this site"):
        read_backup(seal_backup(planted, "0" * 64, [recipient]), msp[1])
    foreign = age.encrypt(canonical.encode(to_json(replace(planted, mac="é"))), [recipient])
    with pytest.raises(BadBundle, match="not made by a box of this site"):
        read_backup(foreign, msp[1])
    with pytest.raises(BadBundle, match="no secrets of a site"):
        read_backup(seal_backup(planted, msp[1].report_secret, [recipient]), msp[1])
    with pytest.raises(NewerFormat):
        read_backup(seal_backup(replace(planted, format=2), msp[1].report_secret, [recipient]), msp[1])
    for name in ("../../x", "a/b", "/etc/x"):
        astray = replace(planted, files={f"sealed/{name}": ""})
        with pytest.raises(BadBundle, match="not allowed"):
            read_backup(seal_backup(astray, msp[1].report_secret, [recipient]), msp[1])
    bad = replace(planted, files={"tokens.json": "!"})
    with pytest.raises(BadBundle, match="not base64"):
        read_backup(seal_backup(bad, msp[1].report_secret, [recipient]), msp[1])
    with pytest.raises(NoSpace):
        seal_backup(replace(planted, files={"x": "A" * BACKUP_BYTES}), msp[1].report_secret, [recipient])


@pytest.mark.parametrize("place", [0.0, 0.02, 0.5, 1.0])
def test_a_damaged_backup_is_refused(
    layout: StateLayout, msp: tuple[Enrolment, SiteSecrets], tmp_path: Path, place: float
) -> None:
    """One changed byte anywhere, or a missing end: an error, and no part of it is taken."""
    whole = handed_on(layout, msp[0], tmp_path)
    data = bytearray(whole)
    data[int(place * (len(data) - 1))] ^= 1
    with pytest.raises((BadBundle, WrongKey)):
        read_backup(bytes(data), msp[1])
    with pytest.raises(BadBundle):
        read_backup(whole[:-100], msp[1])


def test_further_recipients_and_none(layout: StateLayout, msp: tuple[Enrolment, SiteSecrets], tmp_path: Path) -> None:
    """`--to` adds one of the same kind; without anybody who could open it there is no backup."""
    suite = age.suite_of(age.parse_recipient(msp[1].recovery))
    other = age.generate_identity(suite)
    assert back_up(layout, tmp_path / "b", NOW, (str(other.recipient),)).recipients == 2
    assert open_backup((tmp_path / "b").read_bytes(), other).site == "bristol"
    with pytest.raises(BadInput, match="no recipient"):
        back_up(layout, tmp_path / "b", NOW, ("age1nobody",))
    foreign = age.generate_identity(next(kind for kind in age.SUITES if kind != suite))
    with pytest.raises(BadInput, match="one file"):
        back_up(layout, tmp_path / "b", NOW, (str(foreign.recipient),))
    Seal(layout.keys).store(replace(msp[1], recovery=""))
    with pytest.raises(NotReady, match="no recovery site"):
        back_up(layout, tmp_path / "c", NOW)
    assert not (tmp_path / "c").exists()


def test_the_recovery_card_opens_the_seal_of_a_disk(
    layout: StateLayout, msp: tuple[Enrolment, SiteSecrets], tmp_path: Path
) -> None:
    """`site unseal`: the key of this one seal; another card or a damaged slot is told."""
    slot = Seal(layout.keys).folder / "recovery.slot"
    assert unseal(slot, msp[0]).decode() == Seal(layout.keys).key()
    with pytest.raises(WrongKey):
        unseal(slot, parties(age.CLASSIC_SUITE)[0])
    (tmp_path / "none").write_bytes(b"none")
    with pytest.raises(BadBundle, match="or no slot"):
        unseal(tmp_path / "none", msp[0])


def test_a_box_that_is_not_enrolled_has_no_backup(tmp_path: Path) -> None:
    """It says so, and writes nothing."""
    empty = StateLayout(tmp_path / "empty")
    empty.make()
    with pytest.raises(NotReady, match="not enrolled"):
        back_up(empty, tmp_path / "b", NOW)
