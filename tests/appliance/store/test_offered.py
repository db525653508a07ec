"""Which bundle of a medium a box takes, which it skips with a word, and what it does not bring back by itself."""

from datetime import UTC, datetime
from typing import Any

import pytest

from appliance.store import current
from appliance.store.current import GivenUp
from appliance.store.offered import why_skipped
from bundler.format.errors import TakenBack, TooOld
from bundler.format.trust.policy import Policy
from bundler.terminal import exit_code

POLICY = Policy("r", 2, 5, ("2-0008-0123abcd",), ())


def test_each_skipped_bundle_has_its_reason() -> None:
    """Revoked, of another epoch, below the least, older than the chosen one; oldest first."""
    bundles = ["2-0008-0123abcd", "2-0006-0123abcd", "1-0009-0123abcd", "2-0004-0123abcd"]
    found = why_skipped(bundles, "2-0007-0123abcd", POLICY)
    assert [item.why for item in found] == [
        "of epoch 1, not 2",
        "below 5, the least that may be installed",
        "older than 2-0007-0123abcd",
        "revoked",
    ]


def test_older_bundles_are_skipped_with_a_word(customer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for all of them, and each in the report."""
    old, middle, new = (customer.build(faq) for faq in (b"one", b"two", b"three"))
    report = customer.install()
    assert report.bundle == new
    assert f"older bundles on the medium are skipped: {old} to {middle}, 2 of them" in capsys.readouterr().err
    assert [item.bundle for item in report.skipped] == [old, middle]


def test_a_revoked_bundle_is_skipped_with_a_word(customer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The next older one is installed."""
    old = customer.build(b"one")
    revoked = customer.build(b"two")
    customer.revoke(revoked)
    assert customer.install().bundle == old
    assert f"bundle {revoked} is skipped: revoked" in capsys.readouterr().err


def test_a_medium_without_a_bundle_for_this_box_is_too_old(customer: Any) -> None:
    """The reason of each bundle is told, with exit code 13."""
    bundle = customer.build(b"one")
    customer.revoke(bundle)
    with pytest.raises(TooOld, match=f"{bundle} is revoked") as refused:
        customer.install()
    assert exit_code(refused.value) == 13


def test_a_box_that_is_ahead_says_what_it_has(customer: Any) -> None:
    """A bundle that was revoked after it was installed: the older one on the same medium is not gone back to."""
    customer.build(b"one")
    newer = customer.build(b"two")
    customer.install()
    customer.revoke(newer)
    with pytest.raises(TooOld, match=f"this box has {newer}; {newer} is revoked"):
        customer.install()


def take_back(customer: Any, what: str = "taken back") -> None:
    current.roll_back(customer.layout, GivenUp(what, "prices are wrong", datetime.now(UTC).isoformat()))


@pytest.mark.parametrize("what", ["taken back", "rolled back"])
def test_what_was_rolled_back_stays_so(customer: Any, what: str) -> None:
    """The nightly refresh does not bring it back; a person does, and a newer bundle needs no word."""
    old = customer.build(b"one")
    customer.install()
    bad = customer.build(b"two")
    customer.install()
    take_back(customer, what)
    with pytest.raises(TakenBack, match=f"{bad} was {what} on this box on .*: prices are wrong") as refused:
        customer.install()
    assert exit_code(refused.value) == 21
    assert "--again" in refused.value.hint
    assert customer.serving() == old
    assert customer.install(again=True).bundle == bad
    take_back(customer, what)
    better = customer.build(b"three")
    assert customer.install().bundle == better


def test_a_rollback_outlives_a_renewal(customer: Any) -> None:
    """A new host in the policy makes a new version of what serves; the bundle that was taken back stays away."""
    old = customer.build(b"one")
    customer.install()
    bad = customer.build(b"two")
    customer.install()
    take_back(customer)
    with pytest.raises(TakenBack):
        customer.install()
    customer.revoke(bad)
    customer.allow("https://api.example:443")
    renewed = customer.install()
    assert (renewed.bundle, renewed.changed, customer.serving()) == (old, True, old)
    assert current.set_aside(customer.layout)[0][1].what == "taken back"


def test_settings_that_were_rolled_back_stay_so(customer: Any) -> None:
    """The same bundle with the hosts that a person took back is not installed again without a word."""
    customer.build(b"one")
    customer.install()
    customer.allow("https://api.example:443")
    assert customer.install().changed
    take_back(customer)
    with pytest.raises(TakenBack):
        customer.install()
    customer.allow("https://other.example:443")
    assert customer.install().changed
