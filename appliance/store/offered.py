"""Which bundle of a medium is to be installed, and why not the others; what else it brings for this site."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from appliance.store.seal import SiteSecrets
from bundler.files import read_limited
from bundler.format import paths
from bundler.format.errors import BadBundle, TooOld
from bundler.format.limits import KEYS_BYTES, SETTINGS_BYTES
from bundler.format.manifest import Descriptor, order_of
from bundler.format.site import open_settings
from bundler.format.trust.descriptors import descriptor_paths, read_descriptor
from bundler.format.trust.policy import Policy, may_install
from bundler.format.trust.verify import TrustedRepository, digest


@dataclass(frozen=True)
class Medium:
    """A medium whose metadata is verified, and the secrets of the box that it came to."""

    folder: Path
    secrets: SiteSecrets
    trusted: TrustedRepository

    def keys(self) -> bytes:
        """Returns this site's `keys.age`, which opens with its identity or not at all."""
        return read_limited(self.folder / "sites" / self.secrets.site / "keys.age", KEYS_BYTES)


@dataclass(frozen=True)
class Skipped:
    """A bundle that lies on the medium and is not installed, and why."""

    bundle: str
    why: str


@dataclass(frozen=True)
class Offer:
    """What a medium offers a box.

    Attributes:
        path: Of the descriptor.
        descriptor: Of the newest bundle that the policy lets be installed.
        skipped: The others that lie on the medium, oldest first.
    """

    path: str
    descriptor: Descriptor
    skipped: tuple[Skipped, ...]

    def words(self) -> list[str]:
        """Returns a line for each newer bundle that is skipped, and one for all older ones."""
        order = self.descriptor.order
        newer = [item for item in self.skipped if order_of(item.bundle) > order]
        older = [item.bundle for item in self.skipped if order_of(item.bundle) < order]
        lines = [f"bundle {item.bundle} is skipped: {item.why}" for item in newer]
        if older:
            named = older[-1] if len(older) == 1 else f"{older[0]} to {older[-1]}, {len(older)} of them"
            lines.append(f"older bundles on the medium are skipped: {named}")
        return lines


def offered(folder: Path, trusted: TrustedRepository, installed: Descriptor | None) -> Offer:
    """Returns what the medium offers; the order stands in signed paths, so the other descriptors are not read.

    Raises:
        TooOld: It holds nothing that may be installed, or nothing that is not older than what is installed.
        FileMissing, BadBundle: The newest descriptor is not what was signed.
    """
    found = {path.split("/")[1]: path for path in descriptor_paths(trusted)}
    chosen = max((bundle for bundle in found if may_install(bundle, trusted.policy)), key=order_of, default=None)
    here = [bundle for bundle, path in found.items() if bundle != chosen and (folder / path).is_file()]
    skipped = why_skipped(here, chosen, trusted.policy)
    listed = "; ".join(f"{item.bundle} is {item.why}" for item in skipped) or "there is none at all"
    if chosen is None:
        raise TooOld(f"the medium holds no bundle that may be installed: {listed}", _FRESH)
    if installed is not None and chosen != installed.bundle and order_of(chosen) <= installed.order:
        barred = [f"; {item.bundle} is {item.why}" for item in skipped if order_of(item.bundle) > order_of(chosen)]
        fact = f"the medium's newest bundle is {chosen}, this box has {installed.bundle}{''.join(barred)}"
        raise TooOld(fact, _FRESH)
    return Offer(found[chosen], read_descriptor(folder, trusted, found[chosen]), skipped)


_FRESH = "ask the builder for a fresh copy"


def why_skipped(bundles: Iterable[str], chosen: str | None, policy: Policy) -> tuple[Skipped, ...]:
    """Says of each bundle why it is not the one to install, oldest first."""
    return tuple(Skipped(bundle, _why(bundle, chosen, policy)) for bundle in sorted(bundles, key=order_of))


def _why(bundle: str, chosen: str | None, policy: Policy) -> str:
    epoch, sequence = order_of(bundle)
    if bundle in policy.revoked:
        return "revoked"
    if epoch != policy.epoch:
        return f"of epoch {epoch}, not {policy.epoch}"
    if sequence < policy.min_sequence:
        return f"below {policy.min_sequence}, the least that may be installed"
    return f"older than {chosen}"


def site_settings(medium: Medium) -> dict[str, str]:
    """Returns what the MSP set for this site; nothing where the medium's metadata lists no settings for it.

    Raises:
        FileMissing, BadBundle: They are listed, and not there or not what was signed.
    """
    path = f"sites/{medium.secrets.site}/settings.age"
    target = medium.trusted.targets.get(path)
    if target is None:
        return {}
    data = read_limited(paths.inside(medium.folder, path), SETTINGS_BYTES)
    if (len(data), digest(data)) != (target.length, target.sha256):
        raise BadBundle(f"{path} is not what was signed", "copy this file to the medium again")
    return open_settings(data, medium.secrets.identity).values
