"""Which version serves, waits, and was given up: links and small records, and what a power cut leaves of them."""

from pathlib import Path

import pytest

from appliance.store import current
from appliance.store.current import Boots, GivenUp, Proof
from appliance.store.layout import StateLayout
from bundler.files import FileLayer
from bundler.format.errors import BadBundle, NotReady

WHY = GivenUp("rolled back", "it died", "2026-11-21T00:00:00+00:00")


@pytest.fixture
def layout(tmp_path: Path) -> StateLayout:
    """A state with three whole versions and a fourth that a power cut left."""
    made = StateLayout(tmp_path / "state")
    made.make()
    for number in (1, 2, 3, 4):
        made.version(number).mkdir()
        (made.version(number) / "version.json").write_text('{"software":""}')
    for number in (1, 2, 3):
        (made.version(number) / "version.mac").write_text("mac")
    return made


def test_a_proposed_version_becomes_the_current_one_by_one_rename(layout: StateLayout) -> None:
    """Until then the old one is current; after it nothing waits."""
    current.activate(layout, 1)
    current.propose(layout, 2)
    assert (current.current_number(layout), current.waiting_number(layout)) == (1, 2)
    current.promote(layout)
    assert (current.current_number(layout), current.waiting_number(layout)) == (2, None)


def test_the_version_before_is_whole_and_was_not_given_up(layout: StateLayout) -> None:
    """A half-written one and one that was given up are no place to go back to."""
    assert current.previous(layout, 4) == 3
    current.give_up(layout, 3, WHY)
    assert current.previous(layout, 4) == 2
    assert current.previous(layout, 1) is None


def test_a_given_up_version_waits_no_more_and_tells_why(layout: StateLayout) -> None:
    """The proposal is withdrawn; another one's is not."""
    current.propose(layout, 3)
    current.give_up(layout, 2, WHY)
    assert current.waiting_number(layout) == 3
    current.give_up(layout, 3, WHY)
    assert current.waiting_number(layout) is None
    assert current.given_up(layout, 3) == WHY
    assert current.given_up(layout, 1) is None


def test_a_rollback_records_its_reason_first(layout: StateLayout) -> None:
    """A power cut between the two leaves the reason and the old link: the same decision is taken again."""

    class Cut(FileLayer):
        def replace_link(self, link: Path, target: str) -> None:
            raise OSError("the power went")

    current.activate(layout, 3)
    with pytest.raises(OSError, match="power"):
        current.roll_back(layout, WHY, Cut())
    assert current.given_up(layout, 3) == WHY
    assert current.current_number(layout) == 3
    assert current.roll_back(layout, WHY) == 2
    assert current.current_number(layout) == 2


def test_there_must_be_a_version_to_go_back_to(layout: StateLayout) -> None:
    """The first version is not taken away, and no reason is left on it."""
    current.activate(layout, 1)
    with pytest.raises(NotReady):
        current.roll_back(layout, WHY)
    assert current.given_up(layout, 1) is None
    assert current.current_number(layout) == 1


def test_starts_are_counted_until_a_version_is_healthy(layout: StateLayout) -> None:
    """The counter is of one version; a file that was cut short counts from the beginning."""
    assert [current.note_start(layout, 1) for _ in range(3)] == [1, 2, 3]
    assert current.read_boots(layout) == Boots(1, 3)
    current.note_healthy(layout, 1)
    assert current.note_start(layout, 1) == 1
    assert current.note_start(layout, 2) == 1
    layout.boots.write_bytes(b"\0\0")
    assert current.read_boots(layout) == Boots()


@pytest.mark.parametrize("software", ['"../../tmp"', '"a/b"', "7", '""x'])
def test_software_is_a_name_and_no_path(layout: StateLayout, software: str) -> None:
    """The record is read without its MAC: what it names may only be a version of the program."""
    (layout.version(1) / "version.json").write_text(f'{{"software":{software}}}')
    with pytest.raises(BadBundle):
        current.software_of(layout, 1)


def test_a_proof_is_kept_beside_the_version(layout: StateLayout) -> None:
    """What the models said when it took over."""
    assert current.proof_of(layout, 1) is None
    current.note_proof(layout, 1, Proof(("model a: answers in 5 ms",), tested=True))
    assert current.proof_of(layout, 1) == Proof(("model a: answers in 5 ms",), tested=True)


def test_lines_of_a_proof_take_the_place_of_those_of_the_install() -> None:
    """Each by its subject; what was not asked again stays, but for models that are no more."""
    recorded = ("faq: 9 of 10", "route: 5 of 5", "model old: answers in 9 ms")
    proof = Proof(("faq: 10 of 10", "model new: answers in 5 ms"), tested=True)
    assert current.told(recorded, None) == recorded
    assert current.told(recorded, proof) == ("route: 5 of 5", "faq: 10 of 10", "model new: answers in 5 ms")


def test_an_attempt_outlives_whoever_made_it(layout: StateLayout) -> None:
    """Until its end is noted; a record that was cut short is none."""
    assert current.attempted(layout) is None
    current.end_attempt(layout)
    current.note_attempt(layout, 2)
    assert current.attempted(layout) == 2
    current.end_attempt(layout)
    assert current.attempted(layout) is None
    layout.attempt.write_bytes(b"{}")
    assert current.attempted(layout) is None


def test_a_version_says_which_bundle_it_uses(layout: StateLayout) -> None:
    """Where its record cannot be read, none."""
    (layout.version(1) / "version.json").write_text('{"bundle":"1-0001-00000000"}')
    (layout.version(2) / "version.json").unlink()
    assert (current.bundle_of(layout, 1), current.bundle_of(layout, 2)) == ("1-0001-00000000", None)


@pytest.mark.parametrize("record", [b"", b"{", b"{}", b"\xff"])
def test_a_damaged_reason_is_a_reason_still(layout: StateLayout, record: bytes) -> None:
    """The version is not gone back to, and nobody who looks fails on it."""
    (layout.version(2) / "given-up.json").write_bytes(record)
    assert "damaged" in str(current.given_up(layout, 2))
    assert current.previous(layout, 3) == 1
