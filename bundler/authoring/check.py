"""`profile check`: everything that can be wrong with a profile and its content, at once and without network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bundler.authoring.content import Content, read_content
from bundler.authoring.sources import source_issues
from bundler.format.errors import BadInputs
from bundler.format.service import RungSpec, UpstreamSpec
from bundler.ingest.faq import faq_issues
from bundler.knowledge.selftest import NEEDS, Case, without_content
from bundler.plan import NO_SELFTEST
from bundler.profile.model import EmbeddingEntry, ImageEntry, ModelEntry, Profile
from bundler.profile.read import read_profile
from bundler.profile.routes import independent
from bundler.provenance.licence_names import licence_warnings
from bundler.provenance.licences import refused

DOCUMENT_WORDS_LEAST, ANSWER_CHARS_MOST = 20, 1_500
# Names that RFC 2606 keeps for examples: whoever asks them reaches nobody.
_EXAMPLES = (".example", "example.com", "example.net", "example.org", ".test", ".invalid")
_KNOWN = ("faq", "documents")


@dataclass(frozen=True)
class ProfileChecked:
    """What is wrong with a profile, and what its author may want to change."""

    issues: tuple[str, ...]
    warnings: tuple[str, ...]


def check_profile(path: Path, tier: str = "") -> ProfileChecked:
    """Checks a profile.

    Args:
        path: Its TOML file.
        tier: Replaces its tier; "" keeps it.

    Raises:
        BadInput: The file, or that of its tier, cannot be read or is not TOML.
    """
    try:
        profile = read_profile(path, tier=tier)
    except BadInputs as error:
        return ProfileChecked(error.issues, ("the content is looked at once the profile itself is sound",))
    content = read_content(profile)
    issues = [*licence_issues(profile), *source_issues(profile), *content.issues, *content_issues(content)]
    issues += [*case_issues(profile, content), *rung_issues(profile)]
    return ProfileChecked(
        tuple(issues), (*licence_warnings(profile), *rung_warnings(profile), *warnings(profile, content))
    )


def licence_issues(profile: Profile) -> list[str]:
    """Returns models and images whose stated licence `[licences]` does not take; `plan` sees what their sources say."""
    embedding = [profile.embedding] if profile.embedding is not None else []
    entries: list[ModelEntry | EmbeddingEntry | ImageEntry] = [*profile.models, *embedding, *profile.images]
    reasons = [(entry, refused(entry.licence, profile.licences)) for entry in entries]
    return [f"{entry.name}: {reason}" for entry, reason in reasons if reason]


def content_issues(content: Content) -> list[str]:
    """Returns what is weak in FAQs and routers."""
    issues = []
    for name, entries in content.faqs.items():
        issues += [f"[[faq]] {name}: {issue}" for issue in faq_issues(entries, None)]
        issues += [
            f"[[faq]] {name}: the answer of {entry.id} has {len(entry.answer)} characters, more than "
            f"{ANSWER_CHARS_MOST}: make it a document"
            for entry in entries
            if len(entry.answer) > ANSWER_CHARS_MOST
        ]
    for name, examples in content.routers.items():
        if examples and not any(example.label is None for example in examples):
            issues.append(f"[[router]] {name}: no example is out of scope (label null), so nothing is declined")
    return issues


def case_issues(profile: Profile, content: Content) -> list[str]:
    """Returns the cases of the self-test that no content can meet, and the kinds of which there are none."""
    if profile.selftest is None:
        return []
    held = profile.case_kinds
    issues = [f"[selftest]: {issue}" for issue in without_content(content.cases, held)]
    askable = [case for case in content.cases if case.kind in held or case.kind not in NEEDS]
    issues += [f"[selftest]: {issue}" for case in askable for issue in _unmet(case, content)]
    twice = [text for (_, text), count in Counter((c.kind, c.text) for c in content.cases).items() if count > 1]
    issues += [f"[selftest]: the case {text!r} stands twice" for text in twice]
    kinds = {case.kind for case in content.cases}
    needs = {"faq": profile.faqs, "documents": profile.documents, "route": profile.routers}
    lacking = [kind for kind, entries in needs.items() if entries and kind not in kinds]
    if any(needs[kind] for kind in _KNOWN) and "refuse" not in kinds:
        lacking.append("refuse")
    return issues + [f"[selftest]: no case is of kind {kind!r}" for kind in lacking]


def _unmet(case: Case, content: Content) -> Iterator[str]:
    if case.expect is None:  # nothing may be found
        return
    if case.kind == "faq" and case.expect not in {entry.id for faq in content.faqs.values() for entry in faq}:
        yield f"{case.text!r} expects the FAQ entry {case.expect!r}, which is not there"
    if case.kind == "route":
        labels = {example.label for examples in content.routers.values() for example in examples}
        if case.expect not in labels:
            yield f"{case.text!r} expects the label {case.expect!r}, of which there is no example"
    if case.kind == "documents":
        found = [each for documents in content.documents.values() for each in documents if each.source == case.expect]
        if not found:
            yield f"{case.text!r} expects the document {case.expect!r}, which is not there"
        elif not any(case.quote in each.text for each in found):
            yield f"{case.text!r} quotes {case.quote!r}, which {case.expect} does not say"


def ladders(profile: Profile) -> dict[str, tuple[str, ...]]:
    """Returns every order of rungs by the words that people know it by."""
    routes = {f"route {route.name}": route.rungs for route in profile.routes}
    return {"[ladder] chat": profile.ladder.chat, "[ladder] ask": profile.ladder.ask, **routes}


def rung_issues(profile: Profile) -> list[str]:
    """Returns rungs that can never answer."""
    named = {name for rungs in ladders(profile).values() for name in rungs}
    issues = [
        f"{rung.kind} {rung.name} is in no ladder and no route, and answers nobody"
        for rung in profile.ladder.rungs
        if rung.name not in named and rung.kind in (*_KNOWN, "cache")
    ]
    limits = profile.limits.regions
    for upstream in profile.upstreams:
        if limits is not None and upstream.region not in limits:
            issues.append(f"upstream {upstream.name} is never asked: its region {upstream.region!r} is not in [limits]")
    upstreams = _upstreams(profile)
    for route in profile.routes:
        issues += [
            f"route {route.name}: upstream {name} is never asked, its region {upstreams[name].region!r} is not allowed"
            for name in route.rungs
            if name in upstreams and route.regions is not None and upstreams[name].region not in route.regions
        ]
    return issues


def rung_warnings(profile: Profile) -> list[str]:
    """Returns ladders that one fault empties, and rungs that only their own name reaches."""
    by_name = {rung.name: rung for rung in profile.ladder.rungs}
    found = []
    for title, names in ladders(profile).items():
        alone = independent(_rungs(names, by_name), _upstreams(profile))
        if len(alone) == 1:
            rest = "and FAQs, documents and the message answer what they hold"
            found.append(
                f"{title} has one rung that answers any question ({alone.pop()}): when it fails none does, {rest}"
            )
    named = {name for names in ladders(profile).values() for name in names}
    found += [
        f"{rung.kind} {rung.name} is in no ladder and no route: it answers only who asks for it by name"
        for rung in profile.ladder.rungs
        if rung.name not in named and rung.kind in ("upstream", "model")
    ]
    return found


def warnings(profile: Profile, content: Content) -> list[str]:
    """Returns what an author forgets most often."""
    found = [] if profile.selftest is not None else [NO_SELFTEST]
    for name, documents in content.documents.items():
        found += [
            f"[[documents]] {name}: {each.source} has {len(each.text.split())} words, and says hardly anything"
            for each in documents
            if len(each.text.split()) < DOCUMENT_WORDS_LEAST
        ]
    if profile.upstreams and not profile.redact:
        found.append("requests go to providers whole: there is no [[redact]]")
    if not profile.ladder.handoff and profile.handoff is None:
        found.append("who gets no answer is told nothing of a person: [ladder] handoff and [handoff] are both not set")
    if not profile.inventory:
        found.append("there is no [[service]]: the inventory of what depends on AI is empty")
    return found + [f"{url} is an address of an example" for url in example_urls(profile)]


def example_urls(profile: Profile) -> list[str]:
    """Returns the addresses of the profile that were never meant to be reached."""
    urls = [upstream.base_url for upstream in profile.upstreams]
    urls += [profile.handoff.url] if profile.handoff is not None and profile.handoff.url else []
    return [url for url in urls if (urlsplit(url).hostname or "").endswith(_EXAMPLES)]


def _upstreams(profile: Profile) -> Mapping[str, UpstreamSpec]:
    return {upstream.name: upstream for upstream in profile.upstreams}


def _rungs(names: Sequence[str], by_name: Mapping[str, RungSpec]) -> list[RungSpec]:
    return [by_name[name] for name in names]
