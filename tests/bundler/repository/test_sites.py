from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.format import age
from bundler.format.errors import BadBundle, BadInput, Busy, NotReady, WrongKey
from bundler.format.site import make_code, open_enrolment, open_keys, open_settings, parse_code, seal_keys
from bundler.format.trust.medium import load_repository
from bundler.format.trust.verify import digest
from bundler.repository.keyring import Keyring, Msp
from bundler.repository.ledger import read_ledger
from bundler.repository.publish import Publisher
from bundler.repository.sites import NewSite, add_site, authorize_site, remove_site, set_site

NOW, QUICK = datetime(2026, 11, 21, 12, tzinfo=UTC), 10


def added(publisher: Publisher, keyring: Keyring, name: str = "bristol") -> NewSite:
    return add_site(publisher, keyring, publisher.policy().repository, name, work_factor_log2=QUICK)


def test_a_site_enrols_with_its_code(publisher: Publisher, keyring: Keyring) -> None:
    """The code opens the enrolment, which names root, repository and identity; the code is on the card alone."""
    site = added(publisher, keyring)
    folder = publisher.folder / "sites" / "bristol"
    enrolment = open_enrolment((folder / "enroll.age").read_bytes(), site.code.lower().replace("-", " "))
    assert enrolment.root_sha256 == digest(publisher.first_root())
    assert enrolment.repository == publisher.policy().repository
    assert open_keys((folder / "keys.age").read_bytes(), enrolment.identity) == {}
    assert site.code in site.card
    assert site.code not in repr(site)
    for path in publisher.folder.rglob("*"):
        assert not path.is_file() or site.code.encode() not in path.read_bytes()


def test_the_settings_are_signed(publisher: Publisher, keyring: Keyring) -> None:
    """settings.age is a target; the other two are not."""
    added(publisher, keyring)
    trusted = load_repository(publisher.folder, root=publisher.first_root(), repository=None, now=NOW, remembered=None)
    assert set(trusted.targets) == {"sites/bristol/settings.age"}


def test_a_site_is_made_once(publisher: Publisher, keyring: Keyring) -> None:
    """A second site of the same name would cut the first one's box off."""
    added(publisher, keyring)
    with pytest.raises(Busy, match="bristol exists"):
        added(publisher, keyring)


@pytest.mark.parametrize("name", ["", "../x", "Bristol", "a b", "-x", "x" * 64])
def test_names_that_cannot_be_folders_are_refused(publisher: Publisher, keyring: Keyring, name: str) -> None:
    """A site's name is a folder on the stick."""
    with pytest.raises(BadInput):
        added(publisher, keyring, name)


@given(st.binary(min_size=10, max_size=10), st.integers(0, 16), st.integers(1, 30))
def test_a_wrong_letter_is_found(data: bytes, place: int, shift: int) -> None:
    """Every single wrong letter of a code is told before scrypt runs, but for the pair 0 and Z."""
    code = make_code(data)
    assert parse_code(code) == code
    letters = list(code.replace("-", ""))
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    old = letters[place]
    letters[place] = alphabet[(alphabet.index(old) + shift) % 32]
    if {old, letters[place]} != {"0", "Z"}:
        with pytest.raises(WrongKey):
            parse_code("".join(letters))


def test_foreign_keys_are_refused(publisher: Publisher, keyring: Keyring) -> None:
    """Another site's code and identity open nothing; a damaged file is not a wrong key."""
    one, two = added(publisher, keyring), added(publisher, keyring, "cardiff")
    folder = publisher.folder / "sites"
    with pytest.raises(WrongKey):
        open_enrolment((folder / "bristol/enroll.age").read_bytes(), two.code)
    other = open_enrolment((folder / "cardiff/enroll.age").read_bytes(), two.code)
    with pytest.raises(WrongKey):
        open_keys((folder / "bristol/keys.age").read_bytes(), other.identity)
    data = bytearray((folder / "bristol/enroll.age").read_bytes())
    data[-1] ^= 1
    with pytest.raises(BadBundle):
        open_enrolment(bytes(data), one.code)


def test_keys_that_do_not_belong_together_are_refused() -> None:
    """keys.age names each identity by its own recipient."""
    site, one, two = (age.X25519Identity.generate() for _ in range(3))
    with pytest.raises(BadBundle):
        open_keys(seal_keys({str(one.recipient): str(two)}, site.recipient), str(site))


def test_the_keyring_opens_with_its_passphrase_only(tmp_path: Path) -> None:
    """A wrong passphrase, a missing key and a second init are each told apart."""
    ring = Keyring(tmp_path, lambda: "one")
    with pytest.raises(NotReady):
        ring.msp()
    ring.create(Msp("N", "id"), QUICK)
    with pytest.raises(Busy):
        ring.create(Msp("N", "id"), QUICK)
    with pytest.raises(WrongKey):
        Keyring(tmp_path, lambda: "two").signer("root")
    (tmp_path / "keyring" / "root.key").unlink()
    with pytest.raises(NotReady, match=r"root\.key is not here"):
        ring.signer("root")
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "keyring").iterdir())


def test_an_empty_passphrase_is_refused(tmp_path: Path) -> None:
    """No keyring is made with no protection."""
    with pytest.raises(BadInput):
        Keyring(tmp_path, lambda: "").create(Msp("N", "id"), QUICK)


def test_a_removed_site_gets_no_later_key(publisher: Publisher, keyring: Keyring) -> None:
    """Its files go, the other site's stay; a second removal and an unknown name are told."""
    one, _ = added(publisher, keyring), added(publisher, keyring, "cardiff")
    remove_site(publisher, keyring, "cardiff")
    assert not (publisher.folder / "sites" / "cardiff").exists()
    assert set(publisher.listed()) == {"sites/bristol/settings.age"}
    assert [site.site for site in read_ledger(keyring, publisher.policy().repository).sites] == [one.site]
    with pytest.raises(BadInput, match="no site 'cardiff'"):
        remove_site(publisher, keyring, "cardiff")


def test_authorising_takes_no_signing_key(publisher: Publisher, keyring: Keyring) -> None:
    """Only the ledger's key is opened; a damaged keys.age is whole again."""
    site = added(publisher, keyring)
    folder = publisher.folder / "sites" / "bristol"
    (folder / "keys.age").write_bytes(b"gone")
    for role in ("root", "release", "refresh"):
        (keyring.folder / f"{role}.key").unlink()
    authorize_site(publisher, Keyring(keyring.home, lambda: "correct horse"), "bristol")
    enrolment = open_enrolment((folder / "enroll.age").read_bytes(), site.code)
    assert open_keys((folder / "keys.age").read_bytes(), enrolment.identity) == {}


def test_settings_reach_their_site_alone(publisher: Publisher, keyring: Keyring) -> None:
    """They are signed, encrypted to the site, kept between changes, and removed one by one."""
    one, two = added(publisher, keyring), added(publisher, keyring, "cardiff")
    set_site(publisher, keyring, "bristol", {"hosts": "ai.example", "handoff": "Ring 112"})
    set_site(publisher, keyring, "bristol", {"handoff": None})
    folder = publisher.folder / "sites"
    identities = [
        open_enrolment((folder / name / "enroll.age").read_bytes(), site.code).identity
        for name, site in (("bristol", one), ("cardiff", two))
    ]
    data = (folder / "bristol" / "settings.age").read_bytes()
    assert open_settings(data, identities[0]).values == {"hosts": "ai.example"}
    with pytest.raises(WrongKey):
        open_settings(data, identities[1])
    assert digest(data) == publisher.trusted().targets["sites/bristol/settings.age"].sha256
    with pytest.raises(BadInput, match="unknown settings: colour"):
        set_site(publisher, keyring, "bristol", {"colour": "red"})
