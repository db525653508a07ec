"""`build(plan, sources, repository)`: gather, prove, write, sign. A failure leaves the repository as it was."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path

from bundler.check import check, check_snapshots, untested
from bundler.embedding.model import Converted
from bundler.files import DISK, FileLayer
from bundler.fit.snapshot import WAY_OUT, other_dimensions
from bundler.format.errors import BadInput, BadInputs, NoSpace
from bundler.format.limits import VOLUME_BYTES
from bundler.format.trust.policy import origin
from bundler.gather import gather
from bundler.lock import Lock, settle
from bundler.outgoing import outgoing
from bundler.plan import Found, Plan, make_plan
from bundler.profile.model import Profile
from bundler.profile_sources import Sources
from bundler.provenance.documents import Documents
from bundler.provenance.licence_names import licence_warnings
from bundler.provenance.licences import contradictions, issues, require, travels_no_more
from bundler.repository.keyring import Keyring
from bundler.repository.prune import hint
from bundler.repository.publish import Publisher
from bundler.repository.sites import NEW, NewSite, open_repository
from bundler.repository.survey_cache import SurveyCache
from bundler.repository.write import BundleWriter
from bundler.sources.source import Fetched
from bundler.terminal import Terminal, size


@dataclass(frozen=True)
class Built:
    """What a build made; without a change, `bundle` was there."""

    bundle: str
    repository: str
    changed: bool
    new_bytes: int
    length_bytes: int
    volumes: int
    selftest: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    content_sha256: str = ""


def planned(
    sources: Sources,
    found: Mapping[str, tuple[Found, Fetched]],
    converted: Converted | None,
    lock: Lock,
    volume_bytes: int = VOLUME_BYTES,
) -> Plan:
    """Returns the plan of what was fetched and converted."""
    made = make_plan(
        sources.profile.name,
        [item for item, _ in found.values()] + sources.content(),
        lock,
        volume_bytes,
        converted.planned() if converted is not None else None,
        selftest=sources.profile.selftest is not None,
    )
    opened = sources.stores()
    stores = tuple(f"{name}: {store.facts.line}" for name, store in opened.items())
    dimensions = converted.facts.dimensions if converted is not None else 0
    # A server may hold rows and tell no dimension; what its rows have is found when they are read.
    told = [store for store in opened.values() if store.facts.rows and store.facts.dimensions]
    others = [other_dimensions(store.entry, store.facts, dimensions) for store in told]
    delivered, tier = [item for item, _ in found.values()], sources.profile.tier
    return replace(
        made,
        outgoing=outgoing(sources.profile),
        tier=str(tier) if tier is not None else "",
        stores=stores,
        templates=tuple(sources.templates(found)),
        refused=tuple(issues(delivered, sources.profile.licences)),
        contradictions=tuple(f"{item.source}: {text}" for item in delivered for text in contradictions(item)),
        warnings=(*made.warnings, *licence_warnings(sources.profile)),
        mismatched=tuple(line for line in others if line),
    )


@dataclass(frozen=True)
class Builder:
    """Builds bundles of one profile into one repository.

    Attributes:
        publisher: Signs the repository's metadata.
        keyring: The MSP's keys.
        terminal: Progress.
        hand_out: Takes the card of the recovery site that a new repository gets.
        volume_bytes: Plaintext size of a full volume.
        reread: Reads files whole that have not changed, by their times, since an earlier build.
        layer: Where faults can be put.
    """

    publisher: Publisher
    keyring: Keyring
    terminal: Terminal
    hand_out: Callable[[NewSite], None]
    volume_bytes: int = VOLUME_BYTES
    reread: bool = False
    layer: FileLayer = DISK

    def build(self, sources: Sources, lock: Lock, agree: Callable[[Plan], None], now: datetime) -> tuple[Built, Lock]:
        """Builds and signs a bundle.

        Args:
            sources: The profile's sources, with the work folder.
            lock: What remote sources were before.
            agree: Shows the plan and asks; it raises to stop the build.
            now: Time of making.

        Returns:
            What was made, and the lock to be written.

        Raises:
            SourceFailed, BadInput, NoSpace, SelftestFailed: No bundle was added; a repository that was new may be there
                without one.
        """
        profile = sources.profile
        if profile.base_repository is not None and not (profile.base_repository / "metadata").is_dir():
            raise BadInput(f"the base {profile.base_repository} holds no repository", "build the base first")
        self.keyring.ledger_identity()  # a wrong passphrase is told before the work, not after it
        with self.publisher.locked():
            return self._build(profile, sources, lock, agree, now)

    def _build(
        self, profile: Profile, sources: Sources, lock: Lock, agree: Callable[[Plan], None], now: datetime
    ) -> tuple[Built, Lock]:
        sources.local()
        found = sources.found()
        require([item for item, _ in found.values()], profile.licences)
        converted = sources.converted(found)
        plan = planned(sources, found, converted, lock, self.volume_bytes)
        if plan.mismatched:
            raise BadInputs("the vector stores", plan.mismatched, WAY_OUT)
        settled = settle(lock, sources.pins(found))
        is_new = not self.publisher.exists
        if is_new:
            self.terminal.note(f"there is no repository at {self._place}: this build makes a new one")
        agree(plan)
        self._check_space(plan)
        gathered = gather(sources, found, converted)
        report, stores = check(gathered), check_snapshots(gathered)
        repository = open_repository(
            self.publisher, self.keyring, self.hand_out, recovery=profile.recovery, layer=self.layer
        )
        if is_new:
            self.terminal.note(NEW.format(self._place))
        self.publisher.sweep()
        self._allow(profile)
        writer = self._writer(sources, [item for item, _ in found.values()], repository)
        written = writer.write(profile.name, gathered.captured, gathered.service, now)
        sources.keep_templates()
        descriptor = written.descriptor
        built = Built(
            bundle=descriptor.bundle,
            repository=repository,
            changed=written.changed,
            new_bytes=written.new_bytes,
            length_bytes=descriptor.index.length_bytes + sum(volume.length_bytes for volume in descriptor.volumes),
            volumes=len(descriptor.volumes),
            selftest=(*(report.lines() if report is not None else ()), *stores),
            warnings=tuple(untested(gathered)) if report is None else (),
            content_sha256=written.content_sha256,
        )
        for warning in built.warnings:
            self.terminal.warn(warning)
        if told := hint(self.publisher, self.keyring):
            self.terminal.note(told)
        return built, settled

    def _writer(self, sources: Sources, found: Sequence[Found], repository: str) -> BundleWriter:
        profile, targets = sources.profile, self.publisher.trusted().targets
        delivered = [*found, *sources.content()]
        return BundleWriter(
            self.publisher,
            self.keyring,
            self.terminal,
            self.volume_bytes,
            profile.base_repository,
            SurveyCache(None if self.reread else self.keyring.home / "cache" / "surveys"),
            self.layer,
            Documents(profile, profile.sha256, delivered, self.keyring, repository, targets, sources.work),
            partial(travels_no_more, profile.licences),
        )

    @property
    def _place(self) -> Path:
        return self.publisher.folder.absolute()

    def _check_space(self, plan: Plan) -> None:
        folder = self.publisher.folder
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if plan.medium_bytes > free:
            told = f"the bundle needs about {size(plan.medium_bytes)} ({size(plan.medium_bytes - free)} more)"
            raise NoSpace(f"{folder} has {size(free)} free, {told}", "free that much there, or see `lifeboat prune`")

    def _allow(self, profile: Profile) -> None:
        """A host that the policy lacks takes the release key: an unattended job stops here."""
        urls = [url for upstream in profile.upstreams for url in (upstream.base_url, upstream.wire.proxy) if url]
        urls += [profile.handoff.url] if profile.handoff is not None else []
        wanted = {origin(url) for url in urls}
        lacking = wanted - set(self.publisher.policy().egress)
        if lacking:
            self.terminal.note(f"the policy will allow boxes to talk to: {', '.join(sorted(lacking))} (release key)")
            self.publisher.allow(tuple(lacking))
