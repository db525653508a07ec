"""TOML to a frozen `Profile`; all issues are raised at once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from bundler.format.dependency import DependencySpec
from bundler.format.errors import BadInputs
from bundler.format.service import (
    CACHE,
    CHAT,
    MODEL_MS,
    SEARCH_MS,
    SERVES,
    LadderSpec,
    LimitsSpec,
    RungSpec,
    UpstreamSpec,
)
from bundler.profile.cache import RUNG, cache_issues, is_used, read_cache
from bundler.profile.embedding import read_embedding
from bundler.profile.handoff import read_handoff
from bundler.profile.image import read_images
from bundler.profile.licences import read_licences, read_public
from bundler.profile.model import ContentEntry, ModelEntry, Profile, SelftestEntry
from bundler.profile.redact import read_redact
from bundler.profile.routes import read_jobs, read_languages, read_routes
from bundler.profile.signer import read_signer
from bundler.profile.source import read_source
from bundler.profile.table import Table
from bundler.profile.tier import OpenTier, open_tier, read_toml, tier_file
from bundler.profile.upstream import addressed, read_upstream
from bundler.profile.vectors import VectorsEntry, of_other_models, read_vectors

# A local model takes 16 MiB of what the box makes of a request: passages are added, numbers may be written longer.
BODY_BYTES_MOST = 15_000_000
T = TypeVar("T")
MESSAGE = "message"
_CRITICALITY = ("critical", "internal", "experimental")


def read_profile(path: Path, addresses: Mapping[str, str] | None = None, tier: str = "") -> Profile:
    """Reads a profile.

    Args:
        path: The TOML file; `file:` sources are relative to its folder.
        addresses: Replaces the `base_url` of upstreams, by name (a staging copy of a provider).
        tier: Replaces the profile's tier: a name, or a path; "" keeps it.

    Raises:
        BadInput: It can't be read or is not TOML.
        BadInputs: Everything else that is wrong with it.
    """
    profile = parse_profile(read_toml(path, "profile"), path.parent, str(path), addresses or {}, tier)
    return replace(profile, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def parse_profile(
    values: object, base: Path, subject: str, addresses: Mapping[str, str], chosen_tier: str = ""
) -> Profile:
    """Builds a `Profile` from parsed TOML; raises BadInputs with every issue."""
    issues: list[str] = []
    top = Table(values, "profile", issues)
    bundle = top.table("bundle")
    upstreams = addressed([read_upstream(table, base) for table in top.tables("upstream")], addresses, issues)
    tier = open_tier(tier_file(bundle, base, chosen_tier))
    models = tuple(_closed(table, _model(table)) for table in [*tier.models, *top.tables("model")])
    contents = {key: tuple(_content(table) for table in top.tables(key)) for key in ("documents", "faq", "router")}
    routes, ladder, vectors = top.tables("route"), top.table("ladder"), read_vectors(top.tables("vectors"))
    rungs = _rungs(upstreams, models, contents, vectors, cache=is_used([ladder, *routes]))
    profile = Profile(
        name=bundle.name(),
        title=bundle.text("title"),
        base=base,
        base_repository=base / bundle.text("base") if bundle.has("base") else None,
        recovery=bundle.flag("recovery", default=True),
        models=models,
        embedding=read_embedding(embedding) if (embedding := _one_embedding(top, tier, issues)) is not None else None,
        documents=contents["documents"],
        faqs=contents["faq"],
        routers=contents["router"],
        upstreams=upstreams,
        ladder=_ladder(ladder, rungs, issues),
        limits=_limits(top.table("limits")),
        selftest=_selftest(top.table("selftest")) if top.has("selftest") else None,
        inventory=tuple(_dependency(table) for table in top.tables("service")),
        routes=read_routes(routes, rungs, upstreams),
        handoff=read_handoff(top.table("handoff"), base) if top.has("handoff") else None,
        redact=read_redact(top.tables("redact")),
        vectors=vectors,
        public=read_public(bundle),
        licences=read_licences(top.table("licences")),
        images=read_images(top.tables("image")),
        tier=tier.entry,
    )
    issues += tier.told(models)
    bundle.close()
    top.close()
    issues += _conflicts(profile)
    if issues:
        raise BadInputs(subject, tuple(issues), "`lifeboat plan PROFILE` checks a profile without building it")
    return profile


def _one_embedding(top: Table, tier: OpenTier, issues: list[str]) -> Table | None:
    own = top.table("embedding") if top.has("embedding") else None
    if own is not None and tier.embedding is not None:
        issues.append("[embedding]: the tier has one, and a bundle has one only")
    return tier.embedding or own


def _model(table: Table) -> ModelEntry:
    serves = table.choice("serves", SERVES, CHAT)
    if serves != CHAT and table.has("max_output_tokens"):
        table.issue(f"max_output_tokens is for chat models, and this one serves {serves!r}")
    longest = table.integer("max_output_tokens", 512, 1, 65_536)
    return ModelEntry(
        name=table.name(),
        source=read_source(table),
        licence=table.text("licence"),
        licence_file=table.text("licence_file", ""),
        context_tokens=table.integer("context_tokens", 4096, 256, 1_048_576),
        max_output_tokens=longest if serves == CHAT else 0,
        serves=serves,
        languages=read_languages(table),
        template=_template(table, serves),
        signer=read_signer(table),
    )


def _template(table: Table, serves: str) -> str:
    if serves != CHAT and table.has("template"):
        table.issue(f"template is for chat models, and this one serves {serves!r}")
    return table.text("template", "")


def _content(table: Table) -> ContentEntry:
    return _closed(table, ContentEntry(table.name(), table.text("source")))


def _rungs(
    upstreams: tuple[UpstreamSpec, ...],
    models: tuple[ModelEntry, ...],
    contents: Mapping[str, tuple[ContentEntry, ...]],
    vectors: tuple[VectorsEntry, ...],
    *,
    cache: bool,
) -> tuple[RungSpec, ...]:
    asked = [("upstream", spec.name) for spec in upstreams]
    asked += [("model", model.name) for model in models if model.serves == CHAT]
    known = [("faq", entry.name) for entry in contents["faq"]]
    known += [("documents", entry.name) for entry in contents["documents"]]
    known += [("documents", entry.name) for entry in vectors]
    before, after = ([RungSpec(name, kind, name) for kind, name in named] for named in (asked, known))
    return (*before, *((RUNG,) if cache else ()), *after, RungSpec(MESSAGE, MESSAGE, ""))


def _ladder(table: Table, rungs: tuple[RungSpec, ...], issues: list[str]) -> LadderSpec:
    names = [rung.name for rung in rungs]
    cache = read_cache(table)
    usual = [rung.name for rung in rungs if cache is not None or rung.kind != CACHE]
    ladder = LadderSpec(
        rungs=rungs,
        chat=table.texts("chat", usual),
        ask=table.texts("ask", [rung.name for rung in rungs if rung.kind in ("faq", "documents", MESSAGE)]),
        banner=table.text("banner", "The cloud service is not reachable. This answer comes from the local box."),
        message=table.text("message", "I cannot answer this right now. A person will get back to you."),
        handoff=table.text("handoff", ""),
        cache=cache,
        jobs_keep_s=read_jobs(table),
    )
    chat = [rung for name in ladder.chat for rung in rungs if rung.name == name]
    issues += [f"[ladder]: chat {issue}" for issue in cache_issues(chat, cache)]
    if RUNG in (rung for rung in rungs if rung.name in ladder.ask):
        issues.append("[ladder]: ask names 'cache', which keeps answers of chats alone")
    for order in ("chat", "ask"):
        listed = getattr(ladder, order)
        issues += [
            f"[ladder]: {order} names {name!r}, which is not in the profile" for name in listed if name not in names
        ]
        if len(set(listed)) != len(listed) or listed[-1:] != (MESSAGE,):
            issues.append(f"[ladder]: {order} must list each rung once and end with {MESSAGE!r}")
    return _closed(table, ladder)


def _limits(table: Table) -> LimitsSpec:
    return _closed(
        table,
        LimitsSpec(
            body_bytes=table.integer("body_bytes", 2_000_000, 1_000, BODY_BYTES_MOST),
            queue_requests=table.integer("queue_requests", 32, 1, 10_000),
            request_timeout_ms=table.integer("request_timeout_ms", 120_000, 1_000, 3_600_000),
            regions=table.texts("regions") if table.has("regions") else None,
        ),
    )


def _selftest(table: Table) -> SelftestEntry:
    shares = ("faq_percent", "documents_percent", "route_percent", "refuse_percent")
    return _closed(
        table,
        SelftestEntry(
            cases=table.texts("cases"),
            **{key: table.integer(key, 90, 0, 100) for key in shares},
            model_ms=table.integer("model_ms", MODEL_MS, 1, 3_600_000),
            search_ms=table.integer("search_ms", SEARCH_MS, 1, 600_000),
            memory_mb=table.integer("memory_mb", 0, 0, 100_000_000),
        ),
    )


def _dependency(table: Table) -> DependencySpec:
    texts = ("service", "business_function", "cloud_provider", "region", "ai_model_provider", "auth_method")
    values = {key: table.text(key) for key in texts}
    spec = DependencySpec(
        **values,
        criticality=table.choice("criticality", _CRITICALITY),
        failover_plan=table.text("failover_plan"),
        rto=table.text("rto"),
        rpo=table.text("rpo"),
        owner=table.text("owner"),
        contacts=table.texts("contacts"),
    )
    return _closed(table, spec)


def _conflicts(profile: Profile) -> list[str]:
    others = [model.name for model in profile.models if model.serves != CHAT]
    if profile.embedding is not None and (others or profile.embedding.name in [model.name for model in profile.models]):
        others.append(profile.embedding.name)  # licences/NAME.txt and attached/NAME are files of one model
    names = [*(rung.name for rung in profile.ladder.rungs), *others]
    issues = _nothing(profile)
    issues += [f"the name {name!r} is used twice" for name in sorted({n for n in names if names.count(n) > 1})]
    needs = {"documents": profile.documents, "faq": profile.faqs, "router": profile.routers, "vectors": profile.vectors}
    if profile.embedding is None:
        issues += [f"[[{key}]] needs an [embedding]" for key, entries in needs.items() if entries]
    routers = [entry.name for entry in profile.routers]
    issues += [f"the router {name!r} is named twice" for name in sorted({n for n in routers if routers.count(n) > 1})]
    return issues + of_other_models(profile.vectors, profile.embedding.name if profile.embedding is not None else "")


def _nothing(profile: Profile) -> list[str]:
    contents = (profile.documents, profile.faqs, profile.routers, profile.vectors, profile.upstreams)
    if any(contents) or any(model.serves == CHAT for model in profile.models):
        return []
    tables = "chat [[model]], [[faq]], [[documents]], [[router]], [[vectors]] or [[upstream]]"
    return [f"it names nothing to answer with: no {tables}"]


def _closed(table: Table, value: T) -> T:
    table.close()
    return value
