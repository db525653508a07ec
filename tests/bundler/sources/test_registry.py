"""Images from a real registry, through the real skopeo: by digest, checked from there down, and fetched once."""

from __future__ import annotations

import base64
import json
import shutil
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bundler.format.errors import BadInput, PartMissing, SourceFailed
from bundler.lock import Pin, PinnedPart
from bundler.silence import Silence
from bundler.sources import skopeo
from bundler.sources.blobs import Blobs
from bundler.sources.fetch import fetch, fetch_image
from bundler.sources.place import Place
from bundler.sources.referrers import PATIENCE
from bundler.sources.source import Fetched

pytestmark = pytest.mark.skipif(
    shutil.which("skopeo") is None, reason="skopeo is not installed: apt-get install skopeo"
)


@pytest.fixture(scope="module")
def oci(load_script: Any) -> Any:
    return load_script("oci_images")


def _pinned(place: Place, source: str, fetched: Fetched, work: Path) -> Place:
    """The place of a later build, whose lock knows the source."""
    parts = tuple(PinnedPart(part.path, part.length_bytes, part.sha256) for part in fetched.parts)
    work.mkdir()
    pins = {source: Pin(fetched.length_bytes, fetched.sha256, fetched.resolved, parts)}
    return replace(place, work=work, pins=pins)


def _digests(fetched: Fetched) -> tuple[str, ...]:
    assert fetched.layout is not None
    return fetched.layout.digests


def test_a_tag_is_resolved_to_the_digest_that_the_registry_has(push: Any, place: Place) -> None:
    """A tag says what it stood for, and every blob lies in the cache under its digest."""
    pushed = push.image({"hello": b"amd64"}, "1")
    found = fetch_image(f"registry:{push.host}/{push.name}:1", "linux/amd64", place)
    assert found.resolved == pushed["digest"] == f"sha256:{found.sha256}"
    assert len(_digests(found)) == 3
    assert found.layout is not None
    assert all(found.layout.blobs.path(digest).is_file() for digest in _digests(found))


def test_a_tag_that_moved_is_taken_where_it_was(push: Any, place: Place, tmp_path: Path) -> None:
    """The lock's digest wins over what the tag stands for now."""
    push.image({"hello": b"first"}, "1")
    source = f"registry:{push.host}/{push.name}:1"
    first = fetch_image(source, "linux/amd64", place)
    second = push.image({"hello": b"second"}, "1")
    again = fetch_image(source, "linux/amd64", _pinned(place, source, first, tmp_path / "later"))
    assert again.sha256 == first.sha256 != second["digest"].removeprefix("sha256:")


def test_nothing_is_fetched_twice(push: Any, front: Any, place: Place, tmp_path: Path) -> None:
    """An image that a lock pins and the cache holds asks the registry nothing: an offline build has it."""
    push.image({"hello": b"once"}, "1")
    source = f"registry:{front.host}/{push.name}:1"
    first = fetch_image(source, "linux/amd64", place)
    assert front.asked("GET", "/blobs/")
    front.reset()
    later = replace(_pinned(place, source, first, tmp_path / "later"), offline=True)
    assert fetch_image(source, "linux/amd64", later) == replace(first)
    assert front.seen == []


def test_a_registry_that_says_nothing_is_told(
    push: Any, front: Any, place: Place, load_script: Any, two_ticks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits reads it after two seconds, of what skopeo asks and of what the builder asks itself."""
    push.image({"hello": b"slow"}, "1")
    told = list[str]()
    monkeypatch.setattr(skopeo, "Silence", partial(Silence, ended=two_ticks))
    monkeypatch.setattr("bundler.sources.registry.PATIENCE", replace(PATIENCE, sleep=lambda _: None))
    busy = [load_script("registry_front").Answer(503)]
    front.fault = lambda seen: busy.pop() if busy and "/referrers/" in seen.path else None
    fetch_image(f"registry:{front.host}/{push.name}:1", "linux/amd64", replace(place, say=told.append))
    assert f"{front.host} has said nothing for 2 s: it gets 120 s" in told
    assert "the registry: it answers 503; again in 1 s, try 2 of 3" in told


def test_what_is_under_way_lies_where_the_next_build_removes_it(
    push: Any, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that is killed leaves gigabytes of half a layer in its work folder, and none in the cache."""
    real, places = skopeo.Skopeo.copy, []

    def copy(self: Any, digest: str, blobs: Path, work: Path, **options: Any) -> None:
        places.append(work)
        real(self, digest, blobs, work, **options)

    monkeypatch.setattr(skopeo.Skopeo, "copy", copy)
    push.image({"hello": b"here"}, "1")
    fetch_image(f"registry:{push.host}/{push.name}:1", "linux/amd64", place)
    assert [path.parent for path in places] == [place.work]
    assert not [path for path in place.cache.rglob("*") if path.name.startswith(".")]


def test_what_vanishes_while_it_is_counted_is_left_out(tmp_path: Path) -> None:
    """Another build may fetch into the same cache, and end."""
    (tmp_path / "stays").write_bytes(b"x" * 7)
    until = time.monotonic() + 0.5

    def churn() -> None:
        while time.monotonic() < until:
            (tmp_path / "under" / "way").mkdir(parents=True)
            (tmp_path / "under" / "way" / "blob").touch()
            shutil.rmtree(tmp_path / "under")

    other = threading.Thread(target=churn)
    other.start()
    while other.is_alive():
        assert skopeo._filled(tmp_path) == 7
    other.join()


def test_a_layer_that_two_images_share_is_fetched_once(push: Any, front: Any, place: Place) -> None:
    """What is in the cache is not asked for again, whichever image it came with."""
    shared = push.blob(b"\x1f\x8b" + b"base" * 5_000, "application/vnd.oci.image.layer.v1.tar+gzip")
    for number in ("1", "2"):
        config = push.blob(
            json.dumps({"os": "linux", "architecture": "amd64", "n": number}).encode(),
            "application/vnd.oci.image.config.v1+json",
        )
        kind = "application/vnd.oci.image.manifest.v1+json"
        push.manifest({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [shared]}, number)
    for number in ("1", "2"):
        fetch_image(f"registry:{front.host}/{push.name}:{number}", "linux/amd64", place)
    assert len(front.asked("GET", f"/blobs/{shared['digest']}")) == 1


def test_one_platform_is_chosen_from_an_index(push: Any, place: Place) -> None:
    """The index is checked on the way and stays outside; the other platform's layers are not fetched."""
    arm, amd = (push.image({"hello": arch.encode()}, architecture=arch) for arch in ("arm64", "amd64"))
    index = push.index([arm, amd], "1")
    source = f"registry:{push.host}/{push.name}@{index['digest']}"
    found = fetch_image(source, "linux/amd64", place)
    assert f"sha256:{found.sha256}" == amd["digest"]
    assert found.resolved == ""
    assert arm["digest"] not in _digests(found)
    with pytest.raises(BadInput, match="0 images for linux/s390x; it has linux/amd64, linux/arm64"):
        fetch_image(source, "linux/s390x", place)


def test_all_platforms_keep_the_index(push: Any, place: Place) -> None:
    """`all` takes the index as it is, with every image of it."""
    manifests = [push.image({"hello": arch.encode()}, architecture=arch) for arch in ("arm64", "amd64")]
    index = push.index(manifests, "1")
    found = fetch_image(f"registry:{push.host}/{push.name}:1", "all", place)
    assert found.layout is not None
    assert found.layout.top.digest == index["digest"]
    assert {index["digest"], *(item["digest"] for item in manifests)} < set(_digests(found))
    assert len(_digests(found)) == 7


def test_an_image_for_another_platform_is_refused(push: Any, place: Place) -> None:
    """A manifest says no platform: its config does."""
    push.image({"hello": b"arm"}, "1", architecture="arm64")
    with pytest.raises(BadInput, match="is an image for linux/arm64, wanted is linux/amd64"):
        fetch_image(f"registry:{push.host}/{push.name}:1", "linux/amd64", place)


def test_an_image_of_docker_keeps_its_digest(push: Any, place: Place) -> None:
    """Docker's schema 2 is taken as it is: skopeo would write another manifest and config."""
    pushed = push.image({"hello": b"docker"}, "1", docker=True)
    found = fetch_image(f"registry:{push.host}/{push.name}:1", "linux/amd64", place)
    assert f"sha256:{found.sha256}" == pushed["digest"]
    assert found.layout is not None
    assert found.layout.top.media_type == pushed["mediaType"]
    assert len(_digests(found)) == 3


def test_signatures_are_kept_and_pinned(push: Any, place: Place, tmp_path: Path) -> None:
    """Cosign's tags and the referrers' tag come along; one that is added later does not change a locked build."""
    image = push.image({"hello": b"signed"}, "1")
    tag = image["digest"].replace(":", "-")
    payload = push.blob(b'{"critical":{}}', "application/vnd.dev.cosign.simplesigning.v1+json")
    signature = push.artifact([payload], f"{tag}.sig")
    push.index([push.artifact([push.blob(b"sbom", "text/spdx")])], tag)
    source = f"registry:{push.host}/{push.name}:1"
    found = fetch_image(source, "linux/amd64", place)
    assert found.layout is not None
    assert [item.tag for item in found.layout.attachments] == [f"{tag}.sig", tag]
    assert {signature["digest"], payload["digest"]} < set(_digests(found))
    push.artifact([payload], f"{tag}.att")
    again = fetch_image(source, "linux/amd64", _pinned(place, source, found, tmp_path / "later"))
    assert again == found


def _listing(load_script: Any, *manifests: dict[str, Any]) -> Any:
    """A fault that gives the list of referrers, which this registry keeps not: the rest is handed on to it."""
    value = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests}
    answer = load_script("registry_front").Answer(200, {}, json.dumps(value).encode())
    return lambda seen: answer if "/referrers/" in seen.path else None


def test_what_a_registry_lists_as_referring_is_kept(push: Any, front: Any, place: Place, load_script: Any) -> None:
    """A signature that has no tag is fetched by its digest, once, and pinned under a name that says so."""
    image = push.image({"hello": b"signed"}, "1")
    signature = push.artifact([push.blob(b"bundle", "application/vnd.dev.sigstore.bundle.v0.3+json")], subject=image)
    front.fault = _listing(load_script, signature, signature)
    found = fetch_image(f"registry:{front.host}/{push.name}:1", "linux/amd64", place)
    assert found.layout is not None
    name = f"{image['digest'].replace(':', '-')}.{signature['digest'].removeprefix('sha256:')[:12]}"
    assert [(item.tag, item.digest) for item in found.layout.attachments] == [(name, signature["digest"])]


def test_what_is_listed_and_refers_to_another_is_refused(push: Any, front: Any, place: Place, load_script: Any) -> None:
    """A registry cannot hang the signature of one image on another."""
    image, other = push.image({"hello": b"this"}, "1"), push.image({"hello": b"that"})
    signature = push.artifact([push.blob(b"bundle", "text/plain")], subject=other)
    front.fault = _listing(load_script, signature)
    with pytest.raises(BadInput, match=f"listed as attached to {image['digest']} and is not"):
        fetch_image(f"registry:{front.host}/{push.name}:1", "linux/amd64", place)


def test_a_list_that_is_not_shown_is_a_warning(
    push: Any, front: Any, place: Place, load_script: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The image comes, with what has a tag; nobody takes it for one that nothing refers to."""
    push.image({"hello": b"x"}, "1")
    closed = load_script("registry_front").Answer(403)
    front.fault = lambda seen: closed if "/referrers/" in seen.path else None
    fetch_image(f"registry:{front.host}/{push.name}:1", "linux/amd64", place)
    assert "what refers to it is not known (the registry answers 403)" in caplog.text


def test_what_came_whole_is_not_fetched_again_after_a_break(
    push: Any, front: Any, place: Place, load_script: Any, oci: Any
) -> None:
    """A transfer that breaks in its second layer goes on with that one alone."""
    first, second = (push.blob(letter * 200_000, oci.LAYER) for letter in (b"a", b"b"))
    config = push.blob(json.dumps({"os": "linux", "architecture": "amd64"}).encode(), oci.CONFIG)
    push.manifest({"schemaVersion": 2, "mediaType": oci.MANIFEST, "config": config, "layers": [first, second]}, "1")
    source, whole = f"registry:{front.host}/{push.name}:1", Blobs(place.cache / "registry").path(first["digest"])

    def cut(seen: Any) -> Any:
        if second["digest"] not in seen.path:
            return None
        until = time.monotonic() + 60
        while not whole.exists() and time.monotonic() < until:  # the first one comes meanwhile
            time.sleep(0.02)
        return load_script("registry_front").Cut(down_bytes=50_000)

    front.fault = cut
    with pytest.raises(SourceFailed):
        fetch_image(source, "linux/amd64", place)
    front.reset()
    fetch_image(source, "linux/amd64", place)
    assert [len(front.asked("GET", f"/blobs/{layer['digest']}")) for layer in (first, second)] == [0, 1]


def test_wrong_bytes_in_the_registry_are_refused(push: Any, registry: Any, place: Place) -> None:
    """A layer that the registry's own disk changed does not get in, whole or cut short."""
    for spoil in (lambda data: bytes(len(data)), lambda data: data[:-5]):
        image = push.image({"hello": spoil.__code__.co_code}, "1")
        layer = registry.blob(json.loads(registry.blob(image["digest"]).read_bytes())["layers"][0]["digest"])
        layer.write_bytes(spoil(layer.read_bytes()))
        with pytest.raises(SourceFailed, match=push.name):
            fetch_image(f"registry:{push.host}/{push.name}:1", "linux/amd64", place)


@pytest.mark.parametrize("length_bytes", [None, 1 << 40], ids=["no-length", "its-own-length"])
def test_a_registry_that_sends_without_end_fills_no_disk(
    push: Any, registry: Any, front: Any, place: Place, load_script: Any, length_bytes: int | None
) -> None:
    """What goes beyond the manifest ends the transfer: skopeo by itself would write until the registry stops."""
    image = push.image({"hello": b"short"}, "1")
    layer = json.loads(registry.blob(image["digest"]).read_bytes())["layers"][0]["digest"]
    endless = load_script("registry_front").Endless(1 << 30, length_bytes)
    front.fault = lambda seen: endless if seen.method == "GET" and layer in seen.path else None
    with pytest.raises(SourceFailed, match="it sends more than the manifest says"):
        fetch_image(f"registry:{front.host}/{push.name}:1", "linux/amd64", place)
    assert 0 < front.asked("GET", layer)[0].down_bytes < 1 << 28
    assert list(place.work.rglob("blob*")) == []
    assert max(path.stat().st_size for path in place.cache.rglob("*") if path.is_file()) < 10_000


def test_what_is_under_way_is_bounded_as_a_whole(tmp_path: Path) -> None:
    """Several blobs that are each within the longest may still be more than all of them were declared."""
    bounds = skopeo._Bounds(file=100, under_way=150)
    for name in ("a", "b"):
        assert not bounds.crossed(tmp_path)
        (tmp_path / name).write_bytes(bytes(80))
    assert bounds.crossed(tmp_path)


def test_a_blob_that_is_gone_is_told(push: Any, registry: Any, place: Place) -> None:
    """A registry that lost a layer is named, and nothing is made of the rest."""
    image = push.image({"hello": b"lost"}, "1")
    registry.blob(json.loads(registry.blob(image["digest"]).read_bytes())["layers"][0]["digest"]).unlink()
    with pytest.raises(SourceFailed):
        fetch_image(f"registry:{push.host}/{push.name}:1", "linux/amd64", place)


def test_another_manifest_than_the_digest_says_is_refused(
    push: Any, front: Any, place: Place, oci: Any, load_script: Any
) -> None:
    """Who stands between cannot put another image under the digest."""
    image, other = push.image({"hello": b"asked"}), push.image({"hello": b"given"})
    data = json.dumps({"schemaVersion": 2, "mediaType": oci.MANIFEST, "config": other, "layers": []}).encode()
    answer = load_script("registry_front").Answer(200, {"Content-Type": oci.MANIFEST}, data)
    front.fault = lambda seen: answer if "/manifests/sha256:" in seen.path else None
    with pytest.raises(SourceFailed, match=image["digest"]):
        fetch_image(f"registry:{front.host}/{push.name}@{image['digest']}", "linux/amd64", place)


def test_a_damaged_cache_is_mended(push: Any, front: Any, place: Place) -> None:
    """A blob of the cache that is not what its name says is fetched again."""
    push.image({"hello": b"cached"}, "1")
    source = f"registry:{front.host}/{push.name}:1"
    found = fetch_image(source, "linux/amd64", place)
    assert found.layout is not None
    for digest in _digests(found):
        path = found.layout.blobs.path(digest)
        path.write_bytes(bytes(path.stat().st_size))
    assert fetch_image(source, "linux/amd64", place) == found


def test_a_closed_registry_names_the_way_in(
    make_registry: Any, oci: Any, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """401 says how to log in; with skopeo's own credentials it opens, and nothing of them is in what is delivered."""
    closed = make_registry(users={"anna": "s3cret-word"})
    word = base64.b64encode(b"anna:s3cret-word").decode()
    pusher = oci.Pusher(closed.host, "team/app", {"Authorization": f"Basic {word}"})
    pusher.image({"hello": b"closed"}, "1")
    auth = tmp_path / "auth.json"
    auth.write_text("{}")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(auth))
    source = f"registry:{closed.host}/team/app:1"
    with pytest.raises(SourceFailed) as refused:
        fetch_image(source, "linux/amd64", place)
    assert refused.value.hint == f"skopeo login {closed.host}"
    auth.write_text(json.dumps({"auths": {closed.host: {"auth": word}}}))
    assert "s3cret" not in repr(fetch_image(source, "linux/amd64", place))


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("registry:127.0.0.1:1/team/app:1", "connection refused"),
        ("registry:{host}/nobody/nothing:1", "unknown"),
        ("registry:{host}/nobody/nothing", "neither tag nor digest"),
    ],
)
def test_what_is_not_there_is_told(registry: Any, place: Place, source: str, told: str) -> None:
    """An unreachable registry and an unknown name each say so."""
    with pytest.raises((SourceFailed, BadInput), match=told):
        fetch_image(source.format(host=registry.host), "linux/amd64", place)


def test_offline_says_what_is_lacking(registry: Any, place: Place) -> None:
    """An offline build asks nobody."""
    with pytest.raises(SourceFailed, match="offline"):
        fetch_image(f"registry:{registry.host}/team/app:1", "linux/amd64", replace(place, offline=True))


def test_without_skopeo_the_install_line_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder without skopeo hears how to get it."""
    monkeypatch.setattr(skopeo, "PROGRAM", "skopeo-that-is-not-there")
    with pytest.raises(PartMissing) as missing:
        fetch_image("registry:127.0.0.1:1/team/app:1", "linux/amd64", place)
    assert missing.value.hint.startswith("apt-get install")


def test_an_artifact_is_no_image_and_an_image_no_model(push: Any, place: Place) -> None:
    """Each is named for what it is."""
    push.artifact([push.blob(b"x", "text/plain")], "a")
    push.image({"hello": b"x"}, "i")
    with pytest.raises(BadInput, match="no container image"):
        fetch_image(f"registry:{push.host}/{push.name}:a", "linux/amd64", place)
    with pytest.raises(BadInput, match="a model is a file of an artifact"):
        fetch(f"registry:{push.host}/{push.name}:i", place)


def test_a_transfer_that_stands_still_ends(
    push: Any, front: Any, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry that sends nothing more does not hang the build; what has come is not fetched again."""
    push.image({"hello": b"slow"}, "1")
    released = threading.Event()
    monkeypatch.setattr(skopeo, "STALL_S", 0.5)
    monkeypatch.setattr(skopeo.Skopeo.__init__, "__defaults__", (0.5, lambda _: None))

    def hold(seen: Any) -> None:
        if "/blobs/" in seen.path:
            released.wait(20)

    front.fault = hold
    try:
        with pytest.raises(SourceFailed, match=r"nothing has come for"):
            fetch_image(f"registry:{front.host}/{push.name}:1", "linux/amd64", place)
    finally:
        released.set()
