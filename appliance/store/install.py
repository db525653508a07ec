"""`install(bundle, store)`: verify, copy, check every chunk, prove that it answers, and only then switch.

Order, and why: nothing of the medium is parsed before it is authenticated; nothing is shown under a final name before
it is whole; the old version serves until one rename; a failure at any step leaves the box as it was.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from appliance.store import current, gc, medium, versions
from appliance.store.current import GivenUp
from appliance.store.enrol import Enroller
from appliance.store.layout import StateLayout
from appliance.store.seal import Seal, SiteSecrets
from appliance.store.trust import TrustStore
from bundler.files import DISK, FileLayer, exclusive, read_limited, remove_staged, write_atomic
from bundler.format import paths
from bundler.format.bundle import Bundle, check_chunks, open_bundle
from bundler.format.errors import BadBundle, SelftestFailed, TooOld
from bundler.format.limits import KEYS_BYTES, SETTINGS_BYTES
from bundler.format.manifest import Descriptor, encode_descriptor
from bundler.format.site import open_keys, open_settings
from bundler.format.trust.descriptors import newest_descriptor
from bundler.format.trust.medium import load_repository
from bundler.format.trust.verify import TrustedRepository, digest
from bundler.terminal import Terminal, size


@dataclass(frozen=True)
class Proof:
    """What the self-test of a candidate said; `model_tested` is false where no engine could be started."""

    passed: bool
    lines: tuple[str, ...]
    model_tested: bool


@dataclass(frozen=True)
class InstallReport:
    """What an install did."""

    bundle: str
    version: int
    changed: bool
    copied_bytes: int
    warnings: tuple[str, ...]
    selftest: tuple[str, ...]
    model_tested: bool


@dataclass(frozen=True)
class Installer:
    """Installs bundles into one state.

    Attributes:
        layout: The state.
        enroller: Opens the site card on first contact.
        prove: Loads a candidate and runs its self-test.
        switch: Makes a version the serving one; raises SelftestFailed where what serves refuses it.
        terminal: Progress.
        layer: Where faults can be put.
    """

    layout: StateLayout
    enroller: Enroller
    prove: Callable[[Bundle], Proof]
    switch: Callable[[int], None]
    terminal: Terminal
    layer: FileLayer = DISK

    def install(self, folder: Path, now: datetime) -> InstallReport:
        """Installs the newest bundle of the repository in `folder`.

        Raises:
            UnknownRoot, MetadataExpired, TooOld, FileMissing, BadBundle, WrongKey, NewerFormat: The medium is refused.
            NoSpace: It does not fit.
            SelftestFailed: It is authentic and does not answer.
            Busy: Another install runs.
        """
        self.layout.make()
        with exclusive(self.layout.run / "install.lock", "another install is running on this box"):
            for guarded in (self.layout.repository, self.layout.versions, self.layout.trust):
                remove_staged(guarded)  # only what this lock guards: tokens are written beside us
            seal = Seal(self.layout.keys, self.layer)
            fresh = not seal.enrolled
            secrets = self.enroller.enrol(folder) if fresh else seal.open()
            if fresh:
                self._forget_versions()
            trust = TrustStore(self.layout.trust, self.layer)
            trusted = load_repository(
                folder,
                root=trust.pinned_root(folder, secrets),
                repository=secrets.repository,
                now=now,
                remembered=trust.remembered(),
            )
            for warning in trusted.warnings:
                self.terminal.warn(warning)
            report = self._install(folder, secrets, trusted, now)
            if fresh:
                seal.store(secrets)
            trust.store(trusted)
            self._give_up_revoked(secrets, trusted, now)
            if report.changed:
                self.switch(report.version)
                gc.collect(self.layout, secrets, self.layer)
            return _with_proof(report, current.proof_of(self.layout, report.version))

    def _forget_versions(self) -> None:
        """What an install wrote that ended before its secrets were sealed opens with no secret any more."""
        for number in tuple(current.numbers(self.layout)):
            shutil.rmtree(self.layout.version(number))

    def _give_up_revoked(self, secrets: SiteSecrets, trusted: TrustedRepository, now: datetime) -> None:
        """No version whose bundle is revoked is ever gone back to."""
        for number in current.numbers(self.layout):
            if not (self.layout.version(number) / "version.mac").is_file():
                continue  # a power cut left it
            bundle = versions.read_version(self.layout, secrets, number).bundle
            if bundle in trusted.policy.revoked and current.given_up(self.layout, number) is None:
                why = GivenUp("revoked", f"bundle {bundle} is revoked", now.isoformat(timespec="seconds"))
                current.give_up(self.layout, number, why, self.layer)

    def _install(self, folder: Path, secrets: SiteSecrets, trusted: TrustedRepository, now: datetime) -> InstallReport:
        path, descriptor = newest(folder, trusted)
        installed = versions.installed_order(self.layout, secrets)
        settings = site_settings(folder, secrets, trusted)
        if installed is not None and installed.bundle == descriptor.bundle:
            return self._renew(folder, secrets, trusted, settings, now)
        if installed is not None and descriptor.order <= installed.order:
            raise TooOld(
                f"the medium's newest bundle is {descriptor.bundle}, this box has {installed.bundle}",
                "ask the builder for a fresh copy",
            )
        keys = read_limited(folder / "sites" / secrets.site / "keys.age", KEYS_BYTES)
        identities = open_keys(keys, secrets.identity)
        copied_bytes = self._copy(folder, path, descriptor)
        with open_bundle(self.layout.repository, descriptor, identities) as bundle:
            self._check(bundle)
            proof = self._proved(bundle)
        version = versions.Version(
            number=versions.next_number(self.layout),
            bundle=descriptor.bundle,
            descriptor_path=path,
            descriptor_sha256=trusted.targets[path].sha256,
            made=descriptor.made,
            installed=now.isoformat(timespec="seconds"),
            egress=tuple(trusted.policy.egress),
            selftest=proof.lines,
            model_tested=proof.model_tested,
            settings=settings,
        )
        versions.write_version(self.layout, secrets, version, keys, self.layer)
        return _report(version, trusted, copied_bytes, changed=True)

    def _renew(
        self, folder: Path, secrets: SiteSecrets, trusted: TrustedRepository, settings: dict[str, str], now: datetime
    ) -> InstallReport:
        """Takes what may change without a new bundle: the hosts of the policy, and the settings of the site."""
        current, egress = versions.read_current(self.layout, secrets), tuple(trusted.policy.egress)
        if (current.egress, current.settings) == (egress, settings):
            return _report(current, trusted, 0, changed=False)
        number, installed = versions.next_number(self.layout), now.isoformat(timespec="seconds")
        version = replace(current, number=number, installed=installed, egress=egress, settings=settings)
        keys = read_limited(folder / "sites" / secrets.site / "keys.age", KEYS_BYTES)
        versions.write_version(self.layout, secrets, version, keys, self.layer)
        return _report(version, trusted, 0, changed=True)

    def _copy(self, folder: Path, path: str, descriptor: Descriptor) -> int:
        files = medium.files_of(descriptor)
        needed = medium.lacking(self.layout.repository, files)
        total = medium.check_space(self.layout.repository, needed)
        with self.terminal.progress(f"copying {size(total)}", total) as progress:
            for file in needed:
                medium.copy_file(folder, self.layout.repository, file, progress.advance, self.layer)
        # Canonical, so these are the bytes that were signed; the medium is not asked a second time.
        data = encode_descriptor(descriptor)
        write_atomic(self.layout.repository / path, data, mode=0o600, layer=self.layer)
        return total

    def _check(self, bundle: Bundle) -> None:
        total = sum(asset.length_bytes for asset in bundle.index.assets)
        with self.terminal.progress("checking every chunk", total) as progress:
            check_chunks(bundle, progress.advance)

    def _proved(self, bundle: Bundle) -> Proof:
        proof = self.prove(bundle)
        if not proof.passed:
            raise SelftestFailed(
                "the bundle is authentic, but it fails its own self-test:\n  " + "\n  ".join(proof.lines),
                "the box keeps what it had; send these lines to the builder",
            )
        return proof


def _report(
    version: versions.Version, trusted: TrustedRepository, copied_bytes: int, *, changed: bool
) -> InstallReport:
    return InstallReport(
        bundle=version.bundle,
        version=version.number,
        changed=changed,
        copied_bytes=copied_bytes,
        warnings=trusted.warnings,
        selftest=version.selftest,
        model_tested=version.model_tested,
    )


def _with_proof(report: InstallReport, proof: current.Proof | None) -> InstallReport:
    """The report with what the models said to whom served, where they were asked there."""
    if proof is None:
        return report
    lines = tuple(line for line in report.selftest if not line.startswith("model "))
    return replace(report, selftest=(*lines, *proof.lines), model_tested=proof.tested)


def site_settings(folder: Path, secrets: SiteSecrets, trusted: TrustedRepository) -> dict[str, str]:
    """Returns what the MSP set for this site; nothing where the medium's metadata lists no settings for it.

    Raises:
        FileMissing, BadBundle: They are listed, and not there or not what was signed.
    """
    path = f"sites/{secrets.site}/settings.age"
    target = trusted.targets.get(path)
    if target is None:
        return {}
    data = read_limited(paths.inside(folder, path), SETTINGS_BYTES)
    if (len(data), digest(data)) != (target.length, target.sha256):
        raise BadBundle(f"{path} is not what was signed", "copy this file to the medium again")
    return open_settings(data, secrets.identity).values


def newest(folder: Path, trusted: TrustedRepository) -> tuple[str, Descriptor]:
    """Returns the path and descriptor of the newest bundle that may be installed.

    The order stands in the bundle's id, which is part of a signed path, so older bundles need not be read.
    """
    descriptor = newest_descriptor(folder, trusted)
    if descriptor is None:
        raise TooOld("the medium holds no bundle that may be installed (none at all, revoked, or below the least)")
    return f"bundles/{descriptor.bundle}/bundle.json", descriptor
