"""A build's material: a chat model of a hub, an embedding model of a wheel, the customer's own FAQ, and a program."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from bundler.format.age import generate_identity
from bundler.format.manifest import Descriptor, FileDigest, Volume
from bundler.lock import PinnedPart
from bundler.plan import Found
from bundler.provenance.material import Material, Part, Wheel
from bundler.repository.keyring import Keyring, Msp
from bundler.repository.publish import Publisher
from bundler.repository.roots import Roots, first_root

NOW = datetime(2026, 11, 22, 4, tzinfo=UTC)
COMMIT = "c" * 40
CHAT = f"hub:Acme/Chat-GGUF@{COMMIT}/chat-q4.gguf"
WEIGHTS = "wheel:mini==0.1.0/mini/model/model.safetensors"
OWN = "file:customers/secret-merger.jsonl"


@pytest.fixture
def sources() -> tuple[Found, ...]:
    facts = (("architecture", "llama"), ("quantisation", "Q4_K_M"), ("task", "text-generation"))
    return (
        Found("model", CHAT, 900, "1" * 64, "llama3.1", declared="llama3.1", facts=facts),
        Found("embedding", WEIGHTS, 90, "2" * 64, "Apache-2.0 OR MIT", parts=(PinnedPart("a-00001", 90, "9" * 64),)),
        Found("faq", OWN, 9, "", ""),
    )


@pytest.fixture
def material(sources: tuple[Found, ...]) -> Material:
    weights = f"{WEIGHTS}#sha256={'2' * 64}"
    parts = (
        Part("embedding/model.onnx", "onnx", 99, "3" * 64, "4" * 64, "Apache-2.0 OR MIT", weights),
        Part("faq/merger/faq.jsonl", "faq", 9, "5" * 64, "6" * 64, "", OWN),
        Part("models/chat.gguf", "gguf", 900, "1" * 64, "7" * 64, "llama3.1", f"{CHAT}#sha256={'1' * 64}"),
    )
    software = (Wheel("click", "8.1", "8" * 64), Wheel("lifeboat-ai", "0.1.0", "a" * 64))
    digests = {OWN: f"sha256:{'b' * 64}"}
    return Material("aldous", "Aldous", "ab" * 16, "cd" * 16, "e" * 64, parts, sources, digests, "0.1.0", software)


@pytest.fixture
def descriptor() -> Descriptor:
    recipient = str(generate_identity("age-x25519").recipient)
    bundle = "1-0007-0123abcd"
    index = FileDigest(f"bundles/{bundle}/index.age", 300, "d" * 64)
    volumes = (Volume(f"bundles/{bundle}/vol/0001.age", 900, "f" * 64, recipient),)
    return Descriptor(1, "age-x25519", "cd" * 16, bundle, 1, 7, "2026-11-22T04:00:00+00:00", recipient, index, volumes)


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    ring = Keyring(tmp_path / "home", lambda: "correct horse")
    ring.create(Msp("Northquay", "ab" * 16), 10)
    Roots(ring.home).add(first_root(ring, NOW), NOW)
    return ring


@pytest.fixture
def publisher(tmp_path: Path, keyring: Keyring) -> Publisher:
    made = Publisher(tmp_path / "repo", keyring, NOW)
    made.create()
    return made
