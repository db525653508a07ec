"""A profile to `format/service`: what the box needs of it. Pure."""

from __future__ import annotations

from bundler.format import service
from bundler.format.image import ImageSpec
from bundler.format.store import CollectionSpec
from bundler.profile.model import Profile, SelftestEntry

SELFTEST = "selftest.jsonl"


def compile_service(
    profile: Profile,
    embedding: service.EmbeddingSpec | None,
    images: tuple[ImageSpec, ...] = (),
    snapshots: tuple[CollectionSpec, ...] = (),
) -> service.Service:
    """Returns what the box needs of the profile; the digests of models are known once they are written.

    Args:
        profile: What the operator wrote.
        embedding: The model as converted.
        images: As they were taken.
        snapshots: The collections that are made of vector stores.
    """
    models = tuple(
        service.ModelSpec(
            entry.name,
            f"models/{entry.name}.gguf",
            "",
            entry.context_tokens,
            entry.max_output_tokens,
            entry.serves,
            entry.languages,
        )
        for entry in profile.models
    )
    return service.Service(
        profile=profile.name,
        title=profile.title,
        models=models,
        embedding=embedding,
        collections=tuple(CollectionSpec(e.name, f"documents/{e.name}") for e in profile.documents) + snapshots,
        faqs=tuple(service.FaqSpec(e.name, f"faq/{e.name}") for e in profile.faqs),
        routers=tuple(service.RouterSpec(e.name, f"router/{e.name}") for e in profile.routers),
        upstreams=profile.upstreams,
        ladder=profile.ladder,
        limits=profile.limits,
        selftest=_selftest(profile.selftest) if profile.selftest is not None else None,
        inventory=profile.inventory,
        routes=profile.routes,
        handoff=profile.handoff,
        redact=profile.redact,
        images=images,
    )


def _selftest(test: SelftestEntry) -> service.SelftestSpec:
    return service.SelftestSpec(
        asset=SELFTEST,
        faq_percent=test.faq_percent,
        documents_percent=test.documents_percent,
        route_percent=test.route_percent,
        refuse_percent=test.refuse_percent,
        model_ms=test.model_ms,
        search_ms=test.search_ms,
        memory_mb=test.memory_mb,
    )
