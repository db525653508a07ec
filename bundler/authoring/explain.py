"""`profile explain`: what a profile means, in plain words. Pure but for `explain_profile`, which reads it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bundler.authoring.check import example_urls
from bundler.authoring.content import Content, read_content
from bundler.format.dependency import DependencySpec
from bundler.format.service import CONTINUE, HOLD, RouteSpec, RungSpec, UpstreamSpec
from bundler.lock import Lock, lock_path, read_lock
from bundler.outgoing import outgoing
from bundler.plan import TEXT_GROWTH
from bundler.profile.model import Profile
from bundler.profile.read import read_profile
from bundler.profile.vectors import VectorsEntry
from bundler.terminal import size

_STREAMS = {
    HOLD: "whole answers only; what breaks begins anew at the next rung",
    CONTINUE: "word by word; where it breaks the next rung goes on",
}
_BREAKS = "word by word; where it breaks the caller gets an error"
_ENV = "env:"


@dataclass(frozen=True)
class Section:
    """A heading and what is said under it."""

    title: str
    lines: tuple[str, ...]


def explain_profile(path: Path, tier: str = "") -> tuple[Section, ...]:
    """Explains a profile; `tier` replaces its own, "" keeps it.

    Raises:
        BadInput, BadInputs: The profile is not sound: `profile check` lists why.
    """
    profile = read_profile(path, tier=tier)
    return explained(profile, read_content(profile), read_lock(lock_path(path)))


def explained(profile: Profile, content: Content, lock: Lock) -> tuple[Section, ...]:
    """Returns the sections, in the order in which somebody asks."""
    orders = _orders(profile)
    return (
        Section(f"{profile.name}: {profile.title}", tuple(_holds(profile, content))),
        *(Section(f"Who answers {who}", tuple(_order(profile, names, route))) for who, names, route in orders),
        Section("What leaves the building", (*outgoing(profile), *_stays(profile))),
        Section("When the cloud is down", tuple(_without_cloud(profile))),
        *((Section("What depends on AI", tuple(map(_dependency, profile.inventory))),) if profile.inventory else ()),
        Section("Memory and disk", tuple(_sizes(profile, content, lock))),
        Section("What is missing", tuple(_missing(profile, content, lock)) or ("nothing that can be seen from here",)),
    )


def _holds(profile: Profile, content: Content) -> Iterable[str]:
    for model in profile.models:
        yield f"model {model.name} ({model.serves}): {model.source}, {model.licence}, {model.context_tokens:,} tokens"
    if profile.embedding is not None:
        yield f"embedding model {profile.embedding.name}: {profile.embedding.source}, {profile.embedding.licence}"
    for name, documents in content.documents.items():
        words = sum(len(each.text.split()) for each in documents)
        yield f"documents {name}: {len(documents)} with {words:,} words"
    for name, entries in content.faqs.items():
        wordings = sum(len(entry.wordings) for entry in entries)
        yield f"FAQ {name}: {len(entries)} answers, asked in {wordings} wordings"
    for name, examples in content.routers.items():
        labels = {example.label for example in examples} - {None}
        yield f"router {name}: {len(labels)} labels from {len(examples)} examples"
    yield from map(_store, profile.vectors)
    for image in profile.images:
        yield (
            f"image {image.name}: {image.source}, {image.platform}; the box loads it into podman or docker and never "
            f"starts it, `lifeboat-appliance image export {image.name}` writes it out"
        )
    kinds = sorted({case.kind for case in content.cases})
    counts = [f"{sum(case.kind == kind for case in content.cases)} {kind}" for kind in kinds]
    yield f"self-test: {', '.join(counts)}" if counts else "no self-test"


def _store(entry: VectorsEntry) -> str:
    made = (
        "reembed: only its texts are taken, [embedding] makes their vectors anew, so it may rank otherwise than before"
        if entry.reembed
        else f"with its own vectors, which {entry.embedding} made; a search that names it is answered as the store did"
    )
    return (
        f"vector store {entry.name}: {entry.source}, becomes the collection {entry.name} at build; {made}; "
        f"`lifeboat export --vectors {entry.name}` writes it as a store again"
    )


def _stays(profile: Profile) -> Iterable[str]:
    kinds = (("vector stores", profile.vectors), ("images", profile.images))
    if held := " and ".join(kind for kind, entries in kinds if entries):
        yield f"nothing of the {held}: they travel encrypted in the bundle, and the box asks no provider with them"


def _orders(profile: Profile) -> list[tuple[str, tuple[str, ...], RouteSpec | None]]:
    routes = [(f"model={route.name!r}", route.rungs, route) for route in profile.routes]
    chat = () if any(route.name == "auto" for route in profile.routes) else (("chats", profile.ladder.chat, None),)
    return [*chat, ("/v1/ask", profile.ladder.ask, None), *routes]


def _order(profile: Profile, names: tuple[str, ...], route: RouteSpec | None) -> Iterable[str]:
    by_name = {rung.name: rung for rung in profile.ladder.rungs}
    upstreams = {upstream.name: upstream for upstream in profile.upstreams}
    for number, name in enumerate(names, 1):
        yield f"{number}. {_rung(profile, by_name[name], upstreams, route)}"
    if route is None:
        return
    yield _STREAMS.get(route.stream, _BREAKS)
    if route.criticality != "normal":
        place = "first" if route.criticality == "critical" else "last"
        yield f"in a queue it goes {place}: it is {route.criticality}"
    if route.deadline_ms:
        yield f"an answer begins within {route.deadline_ms / 1000:g} s, or the caller is told"
    if route.output is not None:
        yield "an answer that is not of the form of [route.output] is nobody's, and the next is asked"
    if route.jobs_keep_s:
        yield f"who does not wait may hand it in as a job, which is tried for {route.jobs_keep_s // 3600} h"


def _rung(profile: Profile, rung: RungSpec, upstreams: dict[str, UpstreamSpec], route: RouteSpec | None) -> str:
    if rung.kind == "upstream":
        upstream = upstreams[rung.target]
        where = f"{urlsplit(upstream.base_url).netloc}, {upstream.region or 'no region named'}"
        walls = [profile.limits.regions, route.regions if route is not None else None]
        closed = any(wall is not None and upstream.region not in wall for wall in walls)
        return f"{rung.name}, a provider ({where}){'; never asked: its region is not allowed' if closed else ''}"
    words = {
        "model": f"{rung.name}, the model on the box",
        "faq": f"{rung.name}, approved answers, word for word",
        "documents": f"{rung.name}, quotes of the documents",
        "cache": "cache, what a provider answered to the same question before",
        "message": f"the message: {profile.ladder.message}",
    }
    return words[rung.kind]


def _without_cloud(profile: Profile) -> Iterable[str]:
    clouds = {rung.name for rung in profile.ladder.rungs if rung.kind == "upstream"}
    if not clouds:
        yield "nothing changes: no provider is asked"
        return
    for who, names, route in _orders(profile):
        rest = [name for name in names if name not in clouds]
        if len(rest) == len(names):
            yield f"{who}: nothing changes"
            continue
        job = f"; jobs wait for {route.jobs_keep_s // 3600} h" if route is not None and route.jobs_keep_s else ""
        yield f"{who}: {', then '.join(rest) if rest else 'nobody answers'}{job}"
    yield f"people read: {profile.ladder.banner}"
    if profile.handoff is not None:
        desk = urlsplit(profile.handoff.url).netloc
        yield f"what nobody answers becomes a ticket for {desk}, which waits for the network"
    elif profile.ladder.handoff:
        yield f"what nobody answers ends with: {profile.ladder.handoff}"


def _dependency(line: DependencySpec) -> str:
    makers = dict.fromkeys((line.ai_model_provider, line.cloud_provider, line.region))
    people = dict.fromkeys((line.owner, *line.contacts))
    return (
        f"{line.service} ({line.criticality}): {line.business_function}; by {', '.join(makers)}; back within "
        f"{line.rto}, may lose {line.rpo}; without it: {line.failover_plan}; {', '.join(people)}"
    )


def _sizes(profile: Profile, content: Content, lock: Lock) -> Iterable[str]:
    if profile.tier is not None:
        yield str(profile.tier)
    elif profile.models:
        yield "no tier is named, so nobody says what the models need: `lifeboat-appliance doctor` does on the box"
    pinned = [pin.length_bytes for source, pin in lock.pins.items() if _is_mine(profile, source)]
    if pinned:
        yield f"models: {size(sum(pinned))} as the lock has them"
    elif profile.models:
        yield "models: not fetched yet, `lifeboat plan` tells their sizes"
    yield f"content with its vectors: about {size(content.text_bytes * TEXT_GROWTH)}"


def _is_mine(profile: Profile, source: str) -> bool:
    entry = profile.embedding
    return source in {model.source for model in profile.models} or (
        entry is not None and source.startswith(entry.source)
    )


def _missing(profile: Profile, content: Content, lock: Lock) -> Iterable[str]:
    if content.issues:
        yield f"{len(content.issues)} parts of the content cannot be read: `lifeboat profile check` lists them"
    yield from _unpinned(profile, lock)
    keys = [upstream.key for upstream in profile.upstreams]
    keys += [profile.handoff.key] if profile.handoff is not None else []
    for key in dict.fromkeys(key for key in keys if key):
        if key.startswith(_ENV):
            yield f"the variable {key.removeprefix(_ENV)} of the serving process"
        else:
            yield f"a secret on the box: lifeboat-appliance secret set {key}"
    for url in example_urls(profile):
        yield f"the real address in place of {url}"
    if profile.selftest is None:
        yield "a self-test: nothing shows that the content answers rightly"


def _unpinned(profile: Profile, lock: Lock) -> Iterable[str]:
    for model in profile.models:
        if model.source.startswith(("hub:", "registry:")) and model.source not in lock.pins:
            yield f"{model.name} is not pinned yet: `lifeboat plan` shows what it is, `lifeboat build` writes the lock"
    for image in profile.images:
        if "@sha256:" not in image.source and image.source not in lock.pins:
            yield f"the image {image.name} is not pinned yet: `lifeboat build` writes its digest into the lock"
    for entry in profile.vectors:
        if entry.token:
            yield f"the variable {entry.token.removeprefix(_ENV)} where the bundle is built, for the store {entry.name}"
