"""What a registry keeps beside an artifact: signatures by cosign's tags and referrers come along, as of images."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bundler.format.errors import BadInput, SourceFailed
from bundler.lock import Pin, PinnedPart
from bundler.sources.fetch import fetch
from bundler.sources.place import Place
from bundler.sources.source import Fetched

pytestmark = pytest.mark.skipif(
    shutil.which("skopeo") is None, reason="skopeo is not installed: apt-get install skopeo"
)
KINDS = [
    ("application/vnd.cncf.model.weight.v1.raw", "org.cncf.model.filepath"),  # ModelPack
    ("application/octet-stream", "org.opencontainers.image.title"),  # ORAS
]
MODEL = b"GGUF" + bytes(range(256)) * 300


@pytest.fixture
def model(push: Any) -> Callable[..., dict[str, Any]]:
    """Pushes an artifact of two files under the tag `1`."""

    def pushed(kind: str = KINDS[0][0], name: str = KINDS[0][1]) -> dict[str, Any]:
        files = {"model.gguf": MODEL, "tokenizer.json": b"{}"}
        layers = [push.blob(data, kind, annotations={name: file}) for file, data in files.items()]
        made: dict[str, Any] = push.artifact(layers, "1")
        return made

    return pushed


def _tag(manifest: dict[str, Any]) -> str:
    return str(manifest["digest"]).replace(":", "-")


def _tags(fetched: Fetched) -> list[str]:
    return [item.tag for item in fetched.layout.attachments] if fetched.layout is not None else []


def _later(place: Place, source: str, fetched: Fetched, work: Path) -> Place:
    """The place of a later build, whose lock knows the source."""
    work.mkdir()
    parts = tuple(PinnedPart(part.path, part.length_bytes, part.sha256) for part in fetched.parts)
    pin = Pin(fetched.length_bytes, fetched.sha256, fetched.resolved, parts)
    return replace(place, work=work, pins={source: pin})


@pytest.mark.parametrize(("kind", "name"), KINDS, ids=["ModelPack", "ORAS"])
def test_signatures_of_a_model_are_kept_and_pinned(
    push: Any, model: Any, place: Place, tmp_path: Path, kind: str, name: str
) -> None:
    """With the manifest that they speak of and none of its layers; a later one does not change a locked build."""
    made = model(kind, name)
    payload = push.blob(b'{"critical":{}}', "application/vnd.dev.cosign.simplesigning.v1+json")
    signature = push.artifact([payload], f"{_tag(made)}.sig")
    push.index([push.artifact([push.blob(b"sbom", "text/spdx")])], _tag(made))
    source = f"registry:{push.host}/{push.name}:1/model.gguf"
    found = fetch(source, place)
    assert _tags(found) == [f"{_tag(made)}.sig", _tag(made)]
    assert found.layout is not None
    assert found.layout.top.digest == made["digest"]
    assert {made["digest"], signature["digest"], payload["digest"]} < set(found.layout.digests)
    assert f"sha256:{found.sha256}" not in found.layout.digests
    assert (found.path.read_bytes(), found.made_of) == (MODEL, ())
    push.artifact([payload], f"{_tag(made)}.att")
    later = replace(_later(place, source, found, tmp_path / "later"), offline=True)
    assert replace(fetch(source, later), path=found.path) == found


def test_what_is_listed_as_referring_to_a_model_is_kept(
    push: Any, front: Any, model: Any, place: Place, load_script: Any
) -> None:
    """A referrer without a tag comes by its digest; the registry is asked once for two files of one artifact."""
    made = model()
    bundle = push.artifact([push.blob(b"bundle", "application/vnd.dev.sigstore.bundle.v0.3+json")], subject=made)
    value = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [bundle]}
    answer = load_script("registry_front").Answer(200, {}, json.dumps(value).encode())
    front.fault = lambda seen: answer if "/referrers/" in seen.path else None
    found = [fetch(f"registry:{front.host}/{push.name}:1/{name}", place) for name in ("model.gguf", "tokenizer.json")]
    assert _tags(found[0]) == _tags(found[1]) == [f"{_tag(made)}.{bundle['digest'][7:19]}"]
    assert len(front.asked("GET", "/referrers/")) == 1
    value["manifests"] = [push.artifact([push.blob(b"x", "text/plain")], subject=push.artifact([]))]
    front.fault = lambda seen: replace(answer, body=json.dumps(value).encode()) if "/referrers/" in seen.path else None
    shutil.rmtree(place.work / "registry")
    with pytest.raises(BadInput, match=f"listed as attached to {made['digest']} and is not"):
        fetch(f"registry:{front.host}/{push.name}:1/model.gguf", place)


def test_a_signature_of_the_index_is_one_of_the_model(push: Any, model: Any, place: Place) -> None:
    """Who signs recursively signs the index; both are in the layout, the manifest first."""
    made = model()
    index = push.index([made], "1")
    push.artifact([push.blob(b"{}", "text/plain")], f"{_tag(index)}.sig")
    found = fetch(f"registry:{push.host}/{push.name}:1/model.gguf", place)
    assert _tags(found) == [f"{_tag(index)}.sig"]
    assert found.layout is not None
    assert found.layout.top.digest == made["digest"]
    assert index["digest"] in found.layout.digests


def test_a_lock_of_before_knows_no_signatures(push: Any, model: Any, place: Place, tmp_path: Path) -> None:
    """A locked build delivers what it delivered; the lock made anew has what is attached."""
    made = model()
    source = f"registry:{push.host}/{push.name}:1/model.gguf"
    bare = fetch(source, place)
    assert (bare.layout, bare.parts) == (None, ())
    push.artifact([push.blob(b"{}", "text/plain")], f"{_tag(made)}.sig")
    assert fetch(source, _later(place, source, bare, tmp_path / "later")).parts == ()


def test_what_does_not_travel_asks_for_nothing_more(push: Any, front: Any, model: Any, place: Place) -> None:
    """A base model's template, by digest and in the cache, still needs no network, though no lock pins it."""
    source = f"registry:{front.host}/{push.name}@{model()['digest']}/tokenizer.json"
    fetch(source, replace(place, attached=False))
    assert not front.asked("GET", "/referrers/")
    front.reset()
    assert fetch(source, replace(place, attached=False, offline=True)).layout is None
    assert front.seen == []


def test_a_signature_whose_bytes_are_wrong_is_refused(push: Any, registry: Any, model: Any, place: Place) -> None:
    """A registry whose disk changed a signature delivers no model with it."""
    payload = push.blob(b"the payload of a signature", "text/plain")
    push.artifact([payload], f"{_tag(model())}.sig")
    registry.blob(payload["digest"]).write_bytes(b"another one")
    with pytest.raises(SourceFailed, match=push.name):
        fetch(f"registry:{push.host}/{push.name}:1/model.gguf", place)


def test_a_model_in_the_cache_needs_no_network_without_a_lock(
    push: Any, front: Any, model: Any, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """Named by its digest; whether it is signed is not known then, which is told."""
    source = f"registry:{front.host}/{push.name}@{model()['digest']}/model.gguf"
    fetch(source, replace(place, attached=False))
    front.reset()
    found = fetch(source, replace(place, offline=True))
    assert (found.path.read_bytes(), found.layout, found.parts, front.seen) == (MODEL, None, (), [])
    assert f"{source}: this build is offline: no signatures are taken" in caplog.text


@pytest.mark.parametrize("status", [401, 403])
def test_a_registry_that_refuses_tags_that_are_not_there_delivers_the_model(
    push: Any, front: Any, model: Any, place: Place, load_script: Any, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    """Some do so to tell nobody what there is; the tags that it does show are taken."""
    made = model()
    push.artifact([push.blob(b"{}", "text/plain")], f"{_tag(made)}.att")
    refused = load_script("registry_front").Answer(status, {}, b'{"errors":[{"code":"DENIED","message":"no"}]}')
    front.fault = lambda seen: refused if seen.path.endswith((f"{_tag(made)}.sig", _tag(made))) else None
    found = fetch(f"registry:{front.host}/{push.name}:1/model.gguf", place)
    assert (found.path.read_bytes(), _tags(found)) == (MODEL, [f"{_tag(made)}.att"])
    assert caplog.text.count("no signatures are taken from there") == 2


def test_a_registry_that_fails_at_a_tag_is_not_passed_over(
    push: Any, front: Any, model: Any, place: Place, load_script: Any
) -> None:
    """A signature that is not asked for whole might be there."""
    made = model()
    broken = load_script("registry_front").Answer(500)
    front.fault = lambda seen: broken if seen.path.endswith(".sig") else None
    with pytest.raises(SourceFailed, match=r"\.sig"):
        fetch(f"registry:{front.host}/{push.name}:1/model.gguf", place)
    assert front.asked("GET", f"{_tag(made)}.sig")
