"""Which bundles of a repository stay, and which signed files nothing needs any more: pure.

A bundle stays for one of these reasons, and goes where it has none:

1. It is one of the newest that the policy lets be installed: what boxes get, and what they get if those are revoked.
2. It was copied for a site last, and the policy still allows that site to be at it.
3. It is the newest of all, installable or not: sequences count from it, so that no bundle ever comes back under one
   that was used before, and the next bundle uses its volumes again.

A volume stays as long as a bundle that stays uses it, whoever wrote it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bundler.format.manifest import Descriptor, order_of
from bundler.format.trust.policy import Policy, may_install
from bundler.repository.ledger import Ledger, Site

KEEP = 3


@dataclass(frozen=True)
class Kept:
    """A bundle that stays, and why, in the words of a person."""

    bundle: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Decision:
    """What stays and what goes, oldest bundle first.

    Attributes:
        kept: Bundles that stay.
        removed: Bundles that go.
        dropped: Paths of signed files that go.
    """

    kept: tuple[Kept, ...]
    removed: tuple[str, ...]
    dropped: tuple[str, ...]


def decide(
    descriptors: Sequence[Descriptor], listed: Iterable[str], policy: Policy, sites: Sequence[Site], keep: int = KEEP
) -> Decision:
    """Decides what a repository may lose.

    Args:
        descriptors: Of all its bundles.
        listed: Paths of all its signed files.
        policy: The one in force.
        sites: Of the ledger.
        keep: How many of the newest installable bundles stay, at least 1.

    Raises:
        ValueError: `keep` is below 1.
    """
    if keep < 1:
        raise ValueError(f"at least one bundle is kept, not {keep}")
    bundles = sorted((item.bundle for item in descriptors), key=order_of)
    reasons = _reasons(bundles, policy, sites, keep)
    kept = {bundle for bundle in bundles if reasons[bundle]}
    volumes = {file.path for item in descriptors if item.bundle in kept for file in item.volumes}
    return Decision(
        kept=tuple(Kept(bundle, tuple(reasons[bundle])) for bundle in bundles if bundle in kept),
        removed=tuple(bundle for bundle in bundles if bundle not in kept),
        dropped=tuple(sorted(path for path in listed if _goes(path, kept, volumes))),
    )


def _reasons(bundles: Sequence[str], policy: Policy, sites: Sequence[Site], keep: int) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {bundle: [] for bundle in bundles}
    for bundle in [bundle for bundle in bundles if may_install(bundle, policy)][-keep:]:
        reasons[bundle].append(f"one of the {keep} newest" if keep > 1 else "the newest")
    for site in sites:
        last = site.delivered[-1:]
        if last and last[0] in reasons and may_install(last[0], policy):
            reasons[last[0]].append(f"{site.site} has it")
    if bundles and not reasons[bundles[-1]]:
        reasons[bundles[-1]].append("sequences count from it")
    return reasons


def _goes(path: str, kept: set[str], volumes: set[str]) -> bool:
    """Whether a signed file goes: volumes by who uses them, other files with their bundle."""
    parts = path.split("/")
    if parts[0] != "bundles":
        return False
    return path not in volumes if parts[2] == "vol" else parts[1] not in kept


def remembering(ledger: Ledger, descriptors: Sequence[Descriptor], decision: Decision) -> Ledger:
    """Returns the ledger that still knows what sites hold of bundles that go, so that nothing is shipped again."""
    uses: Mapping[str, set[str]] = {item.bundle: {file.path for file in item.volumes} for item in descriptors}
    alive = {path for kept in decision.kept for path in uses[kept.bundle]}
    for site in ledger.sites:
        gone = [bundle for bundle in site.delivered[-1:] if bundle in decision.removed]
        had = {*site.volumes, *(path for bundle in gone for path in uses[bundle])} & alive
        if had != set(site.volumes):
            ledger = ledger.with_volumes(site.site, tuple(sorted(had)))
    return ledger
