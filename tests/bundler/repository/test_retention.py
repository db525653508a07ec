"""What a prune decides, drawn: nothing that a kept bundle needs is ever removed, and no order ever falls."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.format.manifest import Descriptor, FileDigest, Volume, bundle_id, order_of
from bundler.format.trust.policy import Policy, may_install
from bundler.repository.ledger import Ledger, Site
from bundler.repository.retention import decide, remembering

REPOSITORY = "ab" * 16


def descriptor(order: tuple[int, int], volumes: tuple[str, ...]) -> Descriptor:
    bundle = bundle_id(*order, "0123abcd")
    used = tuple(Volume(path, 1, "0" * 64, "age1x") for path in volumes)
    index = FileDigest(f"bundles/{bundle}/index.age", 1, "0" * 64)
    return Descriptor(1, "x", REPOSITORY, bundle, *order, "2026-11-21", "age1x", index, used)


@st.composite
def repositories(draw: st.DrawFn) -> tuple[list[Descriptor], Policy, tuple[Site, ...], int]:
    """Bundles of up to three epochs with own, earlier and foreign volumes; a policy; sites far behind."""
    orders = draw(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 30)), unique=True, max_size=12))
    found: list[Descriptor] = []
    pool = ["bundles/9-0001-ffffffff/vol/0001.age"]  # linked in from a base
    for order in sorted(orders):
        own = f"bundles/{bundle_id(*order, '0123abcd')}/vol/0001.age"
        earlier = draw(st.lists(st.sampled_from(pool), unique=True, max_size=4))
        mine = draw(st.booleans())
        found.append(descriptor(order, (*earlier, own) if mine else tuple(earlier)))
        pool += [own] if mine else []
    names = [item.bundle for item in found]
    some = st.lists(st.sampled_from(names), unique=True) if names else st.just([])
    policy = Policy(REPOSITORY, draw(st.integers(1, 3)), draw(st.integers(1, 31)), tuple(draw(some)), ())
    sites = tuple(Site(f"site-{number}", "age1x", tuple(draw(some))) for number in range(draw(st.integers(0, 4))))
    return draw(st.permutations(found)), policy, sites, draw(st.integers(1, 5))


def files_of(item: Descriptor) -> set[str]:
    beside = {f"bundles/{item.bundle}/bundle.json", f"bundles/{item.bundle}/sbom.json", item.index.path}
    return beside | {volume.path for volume in item.volumes}


@given(repositories())
def test_nothing_that_a_kept_bundle_needs_goes(case: tuple[list[Descriptor], Policy, tuple[Site, ...], int]) -> None:
    """Kept are the newest, what sites may be at, and the newest of all; every file of those stays, and no other."""
    descriptors, policy, sites, keep = case
    listed = {"sites/a/settings.age"} | {path for item in descriptors for path in files_of(item)}
    found = decide(descriptors, listed, policy, sites, keep)
    kept = [item.bundle for item in found.kept]
    needed = {path for item in descriptors if item.bundle in kept for path in files_of(item)}
    assert set(found.dropped) == listed - needed - {"sites/a/settings.age"}
    assert sorted([*kept, *found.removed], key=order_of) == sorted((i.bundle for i in descriptors), key=order_of)
    allowed = [item.bundle for item in sorted(descriptors, key=lambda one: one.order)]
    assert allowed[-1:] == kept[-1:]  # so that the next sequence is above every one that ever was
    installable = [bundle for bundle in allowed if may_install(bundle, policy)]
    last = {site.delivered[-1] for site in sites if site.delivered}
    assert {*installable[-keep:], *(last & set(installable)), *allowed[-1:]} == set(kept)
    assert all(item.reasons for item in found.kept)


@given(repositories())
def test_what_a_site_has_is_not_forgotten(case: tuple[list[Descriptor], Policy, tuple[Site, ...], int]) -> None:
    """After any two prunes, a copy leaves out just what it left out before, for every bundle that is left."""
    descriptors, policy, sites, keep = case
    uses = {item.bundle: {volume.path for volume in item.volumes} for item in descriptors}
    before, ledger = Ledger(REPOSITORY, sites=sites), Ledger(REPOSITORY, sites=sites)
    left, alive = list(descriptors), set(uses)
    for number in (keep, 1):
        found = decide(left, {path for item in left for path in files_of(item)}, policy, ledger.sites, number)
        ledger = remembering(ledger, left, found)
        left = [item for item in left if item.bundle not in found.removed]
        alive = {item.bundle for item in left}
    wanted = {path for bundle in alive for path in uses[bundle]}
    for site in before.sites:
        had = {path for bundle in site.delivered[-1:] for path in uses[bundle]}
        known = ledger.site(site.site)
        has = {path for bundle in known.delivered[-1:] if bundle in alive for path in uses[bundle]} | set(known.volumes)
        assert has & wanted == had & wanted


def test_keeping_none_is_refused() -> None:
    """A repository without a bundle would count from one again."""
    with pytest.raises(ValueError, match="at least one"):
        decide([], (), Policy(REPOSITORY, 1, 1, (), ()), (), 0)
