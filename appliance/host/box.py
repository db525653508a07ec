"""A version that is loaded: its knowledge, its engines, and what they run on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnxruntime

from appliance.answer.handoff import at_site
from appliance.engine.fitting import Room
from appliance.engine.parent import Engine
from appliance.store.versions import Version
from bundler.format.bundle import Bundle
from bundler.format.service import Service
from bundler.knowledge.base import KnowledgeBase
from bundler.knowledge.dense import DenseFactory, Exact
from bundler.knowledge.encoder import Encoder, preferred_providers
from bundler.knowledge.reading import reading_of


@dataclass(frozen=True)
class Policy:
    """The part of the signed policy that the serving process enforces."""

    egress: tuple[str, ...]


@dataclass(frozen=True)
class Box:
    """What `app.create_app` serves.

    Attributes:
        service: The profile as compiled into the bundle.
        version: Number of the version on this box.
        bundle: Id of the bundle.
        knowledge: FAQ, documents and routers; None where the profile has no embedding model.
        encoder: The embedding model.
        engines: An engine a GGUF model, by the model's name.
        policy: The hosts that the box may talk to.
        told: Returns what the looks at this version found so far, as `/health/ready` tells it.
        hosts: Names by which the MSP lets clients reach this box.
    """

    service: Service
    version: int
    bundle: str
    knowledge: KnowledgeBase | None
    encoder: Encoder | None
    engines: Mapping[str, Engine]
    policy: Policy
    told: Callable[[], Mapping[str, Any]] = dict
    hosts: tuple[str, ...] = ()

    def start_soon(self) -> None:
        """Starts the engines without waiting: FAQ and documents answer while a model loads."""
        for engine in self.engines.values():
            engine.start_soon()

    async def stop(self) -> None:
        await asyncio.gather(*(engine.stop() for engine in self.engines.values()))


def load_knowledge(bundle: Bundle, dense: DenseFactory = Exact) -> tuple[KnowledgeBase | None, Encoder | None]:
    """Loads the embedding model and everything that is searched, from authenticated bytes in memory."""
    spec = bundle.index.service.embedding
    if spec is None:
        return None, None
    providers = preferred_providers(spec.precision, onnxruntime.get_available_providers())
    graph, tokens = bundle.read(spec.asset), bundle.read(spec.tokenizer)
    cores = len(os.sched_getaffinity(0))
    reading = reading_of(spec)
    encoder = Encoder(graph, tokens, max_tokens=spec.max_tokens, providers=providers, threads=cores, reading=reading)
    return KnowledgeBase.load(bundle.index.service, bundle.read, encoder, dense), encoder


def make_engines(bundle: Bundle, run: Path, room: Room | None = None) -> dict[str, Engine]:
    """Makes an engine a model; none is started. All share one view of the memory, `room` where one is given."""
    service, shared = bundle.index.service, room or Room()
    return {
        spec.name: Engine(
            spec,
            bundle.reader(spec.asset),
            runtime_dir=run,
            threads=None,
            queue_requests=service.limits.queue_requests,
            room=shared,
        )
        for spec in service.models
    }


def make_box(
    bundle: Bundle,
    version: Version,
    engines: Mapping[str, Engine],
    told: Callable[[], Mapping[str, Any]],
    dense: DenseFactory = Exact,
) -> Box:
    """Loads a version for serving; `dense` finds the candidates of a search."""
    knowledge, encoder = load_knowledge(bundle, dense)
    return Box(
        service=_at_site(bundle.index.service, version.settings),
        version=version.number,
        bundle=version.bundle,
        knowledge=knowledge,
        encoder=encoder,
        engines=engines,
        policy=Policy(version.egress),
        told=told,
        hosts=site_hosts(version.settings),
    )


def site_hosts(settings: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the names by which the MSP lets clients reach this box."""
    return tuple(name.strip() for name in settings.get("hosts", "").split(",") if name.strip())


def _at_site(service: Service, settings: Mapping[str, str]) -> Service:
    """The service with what differs at this site: what the last rung tells a person to do."""
    handoff = settings.get("handoff", service.ladder.handoff)
    return replace(service, ladder=replace(service.ladder, handoff=handoff), handoff=at_site(service.handoff, settings))
