"""Boxes and a repository that was pruned: one far behind, one that gets what a copy leaves over, and a new one."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from typing import Any

import pytest

from bundler.format.errors import SelftestFailed
from bundler.repository.copy import copy_for_sites
from bundler.repository.prune import prune
from bundler.terminal import Terminal

LATER = datetime(2026, 11, 21, 13, tzinfo=UTC)


def pruned(customer: Any) -> tuple[str, ...]:
    publisher = customer.publisher
    with publisher.locked():
        removed: tuple[str, ...] = prune(publisher, customer.ring, 1, lambda _: None).decision.removed
    return removed


def test_a_box_far_behind_takes_the_newest(customer: Any) -> None:
    """Its own bundle is gone from the repository: it copies what it lacks, and goes back to what it had."""
    first = customer.build(b"one")
    customer.install()
    for faq in (b"two", b"three", b"four"):
        newest = customer.build(faq)
    assert first in pruned(customer)
    report = customer.install()
    assert (report.bundle, customer.serving()) == (newest, newest)
    assert not [path for path in customer.opened if path.startswith(f"bundles/{first}/vol/0001")]  # it has the model
    newer = customer.build(b"five")
    pruned(customer)

    def refuses(_: Any) -> Any:
        raise SelftestFailed("no")

    with pytest.raises(SelftestFailed):
        customer.install(refuses)
    assert customer.serving() == newest
    assert customer.install(again=True).bundle == newer


def test_a_small_copy_of_a_pruned_repository_installs(customer: Any) -> None:
    """What the copy leaves out is what the box holds, though the bundle that brought it is revoked and removed."""
    publisher, usb = customer.publisher, customer.root / "usb"
    first = customer.build(b"one")
    quiet = Terminal(quiet=True)
    copy_for_sites(publisher, customer.ring, ["bristol"], usb, quiet, now=LATER)
    customer.install()
    second = customer.build(b"two")
    customer.revoke(first)
    assert first in pruned(customer)
    shutil.rmtree(usb)
    done = copy_for_sites(publisher, customer.ring, ["bristol"], usb, quiet, now=LATER)[0]
    assert done.left_out
    shutil.move(customer.medium, customer.root / "aside")
    shutil.move(usb, customer.medium)
    assert customer.install().bundle == second
    assert customer.serving() == second


def test_a_new_box_installs_from_a_pruned_repository(customer: Any) -> None:
    """It needs nothing that went."""
    for faq in (b"one", b"two", b"three"):
        newest = customer.build(faq)
    pruned(customer)
    assert customer.install().bundle == newest
    assert customer.serving() == newest
