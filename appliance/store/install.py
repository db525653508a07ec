"""`install(bundle, store)`: verify, copy and check in one pass, prove that it answers, and only then switch.

Order, and why: nothing of the medium is parsed before it is authenticated; nothing is shown under a final name before
it is whole; the old version serves until one rename; a failure at any step leaves the box as it was.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from appliance.store import current, gc, nightly, versions
from appliance.store.backup import Restored, take_over
from appliance.store.current import GivenUp
from appliance.store.enrol import Enroller
from appliance.store.finished import FinishedVolumes
from appliance.store.intake import Intake, Plan, lie_here
from appliance.store.layout import StateLayout
from appliance.store.medium import Opener
from appliance.store.offered import Medium, Offer, Skipped, offered, site_settings
from appliance.store.proof import Proof, Unproved
from appliance.store.seal import Seal, SiteSecrets
from appliance.store.slots import KEY_FILE
from appliance.store.trust import TrustStore
from bundler.files import DISK, FileLayer, exclusive, open_regular, remove_staged, write_atomic
from bundler.format.bundle import Bundle, open_bundle
from bundler.format.errors import BadBundle, SelftestFailed, TakenBack
from bundler.format.manifest import Descriptor, encode_descriptor
from bundler.format.site import open_keys
from bundler.format.trust.medium import load_repository
from bundler.format.trust.verify import TrustedRepository
from bundler.terminal import Progress, Stage, Terminal, size

# Guesses for the time left: a stick of USB 3, a model that loads, a version that takes over.
_INTAKE_BYTES_S, _LOAD_BYTES_S, _PROVE_S, _SWITCH_S = 100e6, 300e6, 4.0, 1.0


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
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True)
class Brought:
    """What a medium may change without a new bundle: policy's hosts, site's settings, program; and when it came."""

    egress: tuple[str, ...]
    settings: dict[str, str]
    software: str
    now: datetime

    def changes(self, version: versions.Version) -> bool:
        """Whether a version has another of these."""
        return (version.egress, version.settings, version.software) != (self.egress, self.settings, self.software)

    def fields(self) -> dict[str, Any]:
        """Returns the fields of a version."""
        installed = self.now.isoformat(timespec="seconds")
        return {
            "egress": self.egress,
            "settings": self.settings,
            "software": self.software,
            "installed": installed,
        }


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
        again: Read everything again, and install also what serves already or was rolled back.
        open_file: Opens a file of the medium.
        program: Returns the program that will serve the version; a newer one of the medium may take this one's place.
        machine: Says with what this machine's slot is made, on first contact (`appliance.store.slots`).
        restore: Opens a backup with the site's secrets; told whether this is first contact (`appliance.store.backup`).
    """

    layout: StateLayout
    enroller: Enroller
    prove: Callable[[Bundle], Proof]
    switch: Callable[[int], None]
    terminal: Terminal
    layer: FileLayer = DISK
    again: bool = False
    open_file: Opener = open_regular
    program: Callable[[Path, TrustedRepository], str] = lambda _medium, _trusted: ""
    machine: Callable[[], str] = lambda: KEY_FILE
    restore: Callable[[SiteSecrets, bool], Restored | None] | None = None

    def install(self, folder: Path, now: datetime) -> InstallReport:
        """Installs the newest bundle of the repository in `folder`.

        Raises:
            UnknownRoot, MetadataExpired, TooOld, FileMissing, BadBundle, WrongKey, NewerFormat: The medium is refused.
            TakenBack: Its newest bundle was rolled back on this box.
            NoSpace: It does not fit.
            SystemFailed: The medium, or this disk, cannot be read or written.
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
            restored = None if self.restore is None else self.restore(secrets, fresh)
            self._forget_unfinished(fresh=fresh)
            if fresh:
                take_over(self.layout, restored, self.layer)
            secrets = secrets if restored is None else restored.secrets
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
            # Before anything of the bundle is read: its format may be newer than this program.
            software = self.program(folder, trusted)
            with self.terminal.stages([Stage("reading the medium", 1.0)]) as progress:
                report = self._install(Medium(folder, secrets, trusted), software, now, progress)
                if fresh:
                    seal.store(secrets, self.machine(), None if restored is None else restored.sealed)
                trust.store(trusted)
                self._give_up_revoked(secrets, trusted, now)
                if report.changed:
                    progress.next_stage()
                    self.switch(report.version)
                    gc.collect(self.layout, secrets, self.layer)
            return _with_proof(report, current.proof_of(self.layout, report.version))

    def _forget_unfinished(self, *, fresh: bool) -> None:
        """A version whose install was stopped never served: the box must not take it for the one to go back to.

        Before its secrets are sealed no version opens with any secret any more.
        """
        for number in tuple(current.numbers(self.layout)) if fresh else current.unfinished(self.layout):
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

    def _install(self, medium: Medium, software: str, now: datetime, progress: Progress) -> InstallReport:
        installed = versions.installed_order(self.layout, medium.secrets)
        offer = offered(medium.folder, medium.trusted, installed)
        for line in offer.words():
            self.terminal.note(line)
        brought = Brought(tuple(medium.trusted.policy.egress), site_settings(medium), software, now)
        if installed is not None and installed.bundle == offer.descriptor.bundle and not self._wants_repair(installed):
            version = self._renewed(medium, brought)
            if version is None:
                return _report(versions.read_current(self.layout, medium.secrets), medium, offer, 0, changed=False)
            keys, copied_bytes, refusal = medium.keys(), 0, None
        else:
            self._refuse_undone(medium.secrets, offer.descriptor.bundle)
            # Read once: what opens the bundle now is what will open it.
            keys = medium.keys()
            identities = open_keys(keys, medium.secrets.identity)
            version, copied_bytes, refusal = self._fresh(medium, offer, brought, identities, progress)
            self._forget_refused(version.bundle)
        versions.write_version(self.layout, medium.secrets, version, keys, self.layer)
        if refusal is not None:  # on record, where `status` and `check` find it
            why = GivenUp("refused", refusal.short(), version.installed)
            current.give_up(self.layout, version.number, why, self.layer)
            raise refusal
        return _report(version, medium, offer, copied_bytes, changed=True)

    def _renewed(self, medium: Medium, brought: Brought) -> versions.Version | None:
        """Returns the serving version with what may change without a new bundle, or None where nothing did."""
        serving = versions.read_current(self.layout, medium.secrets)
        if not brought.changes(serving):
            return None
        self._refuse_undone(medium.secrets, serving.bundle, brought)
        return replace(serving, number=versions.next_number(self.layout), **brought.fields())

    def _fresh(
        self, medium: Medium, offer: Offer, brought: Brought, identities: Mapping[str, str], progress: Progress
    ) -> tuple[versions.Version, int, Unproved | None]:
        """Takes the bundle in and proves it.

        Returns:
            Its version, not written yet; the bytes that were copied; and why it does not serve, or None.
        """
        finished = FinishedVolumes(self.layout.finished, self.layer)
        intake = Intake(medium.folder, self.layout.repository, finished, self.layer, self.open_file)
        refusal = None
        try:
            proof, copied_bytes = self._take(intake, offer.descriptor, identities, progress)
        except Unproved as failure:
            refusal, proof, copied_bytes = failure, failure.proof, 0
        # Canonical, so these are the bytes that were signed; the medium is not asked a second time.
        data = encode_descriptor(offer.descriptor)
        write_atomic(self.layout.repository / offer.path, data, mode=0o600, layer=self.layer)
        version = versions.Version(
            number=versions.next_number(self.layout),
            bundle=offer.descriptor.bundle,
            descriptor_path=offer.path,
            descriptor_sha256=medium.trusted.targets[offer.path].sha256,
            made=offer.descriptor.made,
            selftest=proof.lines,
            model_tested=proof.model_tested,
            **brought.fields(),
        )
        return version, copied_bytes, refusal

    def _forget_refused(self, bundle: str) -> None:
        """An attempt takes the place of earlier ones with the same bundle: a job may try the same medium every day."""
        for number in set(current.numbers(self.layout)) - {current.current_number(self.layout)}:
            why = current.given_up(self.layout, number)
            if why is not None and why.what == "refused" and current.bundle_of(self.layout, number) == bundle:
                shutil.rmtree(self.layout.version(number))

    def _take(
        self, intake: Intake, descriptor: Descriptor, identities: Mapping[str, str], progress: Progress
    ) -> tuple[Proof, int]:
        bundle, copied_bytes = intake.open(descriptor, identities)
        with bundle:
            plan = intake.plan(bundle, trusting=not self._doubted())
            progress.go_on(_stages(plan, bundle))
            copied_bytes += intake.take(plan, identities, progress.advance)
            progress.next_stage()
            try:
                return self._proved(bundle), copied_bytes
            except (BadBundle, SelftestFailed):
                # Volumes that were whole once are trusted, until something fails: then they are read.
                repaired_bytes = intake.take(plan.doubted(), identities, _uncounted)
                if not repaired_bytes:
                    raise
        # Opened anew: the files that were open are the damaged ones.
        with open_bundle(self.layout.repository, descriptor, identities) as bundle:
            return self._proved(bundle), copied_bytes + repaired_bytes

    def _proved(self, bundle: Bundle) -> Proof:
        proof = self.prove(bundle)
        if not proof.passed:
            raise Unproved(proof)
        return proof

    def _wants_repair(self, serving: Descriptor) -> bool:
        """Whether the bundle that serves is to be taken in again."""
        return self._doubted() or not lie_here(self.layout.repository, serving)

    def _doubted(self) -> bool:
        """Whether the store is to be read: a person says so, or the last night found its disk damaged."""
        night = nightly.read(self.layout)
        damaged = night is not None and night.disk_failed and night.version == current.current_number(self.layout)
        return self.again or damaged

    def _refuse_undone(self, secrets: SiteSecrets, bundle: str, brought: Brought | None = None) -> None:
        """What was rolled back stays so until a person says otherwise: a nightly refresh would bring it back else.

        Raises:
            TakenBack: The bundle served here and was rolled back; or, where `brought` is given, this bundle with these.
        """
        if self.again:
            return
        for number, why in current.set_aside(self.layout):
            version = versions.read_version(self.layout, secrets, number)
            if version.bundle == bundle and (brought is None or not brought.changes(version)):
                raise TakenBack(
                    f"bundle {bundle} was {why.what} on this box on {why.when}: {why.reason}",
                    "wait for a newer build, or install this one all the same with --again",
                )


def _stages(plan: Plan, bundle: Bundle) -> list[Stage]:
    """Returns what is to come, with guesses of a middling machine: they give way to what is measured."""
    work_bytes, content_bytes = plan.work_bytes, sum(asset.length_bytes for asset in bundle.index.assets)
    label = "copying and checking" if plan.copy else "checking"
    return [
        Stage(f"{label} {size(work_bytes)}", work_bytes / _INTAKE_BYTES_S, work_bytes),
        Stage("self-test", _PROVE_S + content_bytes / _LOAD_BYTES_S),
        Stage("switching", _SWITCH_S),
    ]


def _report(
    version: versions.Version, medium: Medium, offer: Offer, copied_bytes: int, *, changed: bool
) -> InstallReport:
    return InstallReport(
        bundle=version.bundle,
        version=version.number,
        changed=changed,
        copied_bytes=copied_bytes,
        warnings=medium.trusted.warnings,
        selftest=version.selftest,
        model_tested=version.model_tested,
        skipped=offer.skipped,
    )


def _uncounted(_: int) -> None:
    """Work that nobody foresaw has no share of the progress."""


def _with_proof(report: InstallReport, proof: current.Proof | None) -> InstallReport:
    """The report with what the version said to whom served, where it was asked there."""
    if proof is None:
        return report
    return replace(report, selftest=current.told(report.selftest, proof), model_tested=proof.tested)
