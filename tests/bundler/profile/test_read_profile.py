import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from appliance.engine.endpoint import BODY_BYTES
from bundler.format.errors import BadInput, BadInputs
from bundler.profile.model import Profile
from bundler.profile.read import BODY_BYTES_MOST, parse_profile, read_profile

MINIMAL = """
[bundle]
name = "x"
title = "X"
"""
FAQ = """
[embedding]
name = "e"
source = "file:e/"
licence = "MIT"
[[faq]]
name = "f"
source = "file:f.jsonl"
"""


def parse(text: str, addresses: dict[str, str] | None = None) -> Profile:
    values: dict[str, Any] = tomllib.loads(MINIMAL + text)
    return parse_profile(values, Path("/p"), "p.toml", addresses or {})


def test_the_shipped_profiles_are_sound(repo_root: Path) -> None:
    """Every profile in profiles/ is read without an issue."""
    found = [read_profile(path) for path in sorted((repo_root / "profiles").glob("*.toml"))]
    assert "demo" in {profile.name for profile in found}


def test_defaults_make_a_ladder() -> None:
    """Without a [ladder], every rung is used in order of the profile and a message ends it."""
    profile = parse(FAQ)
    assert profile.ladder.chat == ("f", "message")
    assert profile.ladder.ask == ("f", "message")


def test_the_precision_of_embeddings_is_chosen_or_named() -> None:
    """Without a word the builder chooses."""
    named = FAQ.replace('licence = "MIT"', 'licence = "MIT"\nprecision = "fp16"')
    found = [profile.embedding.precision for text in (FAQ, named) if (profile := parse(text)).embedding is not None]
    assert found == ["auto", "fp16"]


def test_all_issues_come_at_once() -> None:
    """The operator gets the full list, not the first."""
    text = '[[model]]\nname = "Bad Name"\nsource = ""\ncontext_tokens = 3\nspeed = 1\n[limits]\nbody_bytes = "big"\n'
    with pytest.raises(BadInputs) as caught:
        parse(text)
    listed = "\n".join(caught.value.issues)
    for expected in ("Bad Name", "source must be text", "licence is missing", "context_tokens", "speed is not known"):
        assert expected in listed
    assert "body_bytes" in listed


def test_a_misspelt_key_is_told_in_one_line() -> None:
    """With the key that is meant, where it is missing, and where it would only be left out."""
    text = '[[model]]\nname = "m"\nsource = "file:m.gguf"\nlicense = "MIT"\ncontext_token = 512\n'
    with pytest.raises(BadInputs) as caught:
        parse(text)
    assert caught.value.issues == (
        "[[model]] 1: license is not known: write licence",
        "[[model]] 1: context_token is not known: write context_tokens",
    )


def test_a_key_that_is_written_is_not_what_another_means() -> None:
    """`licences` beside `licence`: writing `licence` is no way out."""
    text = '[[model]]\nname = "m"\nsource = "file:m.gguf"\nlicence = "MIT"\nlicences = "MIT"\n'
    with pytest.raises(BadInputs) as caught:
        parse(text)
    assert caught.value.issues == ("[[model]] 1: licences is not known",)


def test_a_missing_key_is_told_in_one_line() -> None:
    """It is missing, and nothing else is wrong with it."""
    with pytest.raises(BadInputs) as caught:
        parse('[[model]]\nname = "m"\nsource = "file:m.gguf"\n[selftest]\n')
    assert caught.value.issues == ("[[model]] 1: licence is missing", "[selftest]: cases is missing")


def test_the_longest_body_fits_into_a_local_model() -> None:
    """With a megabyte for what the box adds; a byte more is an issue."""
    limit = "\n[limits]\nbody_bytes = "
    assert parse(f"{FAQ}{limit}{BODY_BYTES_MOST}\n").limits.body_bytes + 2**20 < BODY_BYTES
    with pytest.raises(BadInputs) as caught:
        parse(f"{FAQ}{limit}{BODY_BYTES_MOST + 1}\n")
    assert "body_bytes" in "".join(caught.value.issues)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (FAQ.replace("[[faq]]", 'precision = "int4"\n[[faq]]'), "expected one of auto, fp32, int8, fp16"),
        ('[[faq]]\nname="f"\nsource="file:f"\n', "needs an \\[embedding\\]"),
        (FAQ + '[[documents]]\nname="f"\nsource="file:d"\n', "used twice"),
        (FAQ + '[[model]]\nname="e"\nsource="file:m.gguf"\nlicence="MIT"\n', "the name 'e' is used twice"),
        (FAQ + '[ladder]\nchat=["f"]\n', "end with 'message'"),
        (FAQ + '[ladder]\nask=["g","message"]\n', "'g', which is not in the profile"),
        ('[[upstream]]\nname="u"\nbase_url="http://cloud.example/v1"\nmodel="m"\n', "must be https"),
        ('[[upstream]]\nname="u"\nbase_url="https://k@cloud.example/v1"\nmodel="m"\n', "may not hold"),
        ("[typo]\nx=1\n", "typo is not known"),
        ("model = 3\n[bundle2]\n", "not known"),
    ],
)
def test_each_fault_is_named(text: str, reason: str) -> None:
    """One fault each, with words that say what to change."""
    with pytest.raises(BadInputs, match=reason):
        parse(text)


@pytest.mark.parametrize(
    "url",
    [
        "https://[bad/v1",
        "https://",
        "https:///v1",
        "https://a b/v1",
        "https://cloud.example:99999/v1",
        "https://cloud.example:0/v1",
        "http://localhost:x/v1",
        "https://[v1.x]/v1",
        "https://ünï.example/v1",
        "https://@cloud.example/v1",
        "https://cloud.example/\nv1",
    ],
)
def test_an_address_that_is_no_origin_is_an_issue(url: str) -> None:
    """It is told with the other issues of the profile, and not when the policy is to be signed."""
    upstream = f'[[upstream]]\nname="u"\nbase_url={json.dumps(url)}\nmodel="m"\n'
    with pytest.raises(BadInputs, match="base_url") as caught:
        parse(f"{upstream}[typo]\n")
    assert len(caught.value.issues) == 2
    with pytest.raises(BadInputs, match="--upstream u: base_url"):
        parse(upstream.replace(json.dumps(url), '"https://cloud.example/v1"'), {"u": url})


def test_addresses_replace_upstreams() -> None:
    """--upstream changes where a provider is looked for, and must name one that exists."""
    text = '[[upstream]]\nname="u"\nbase_url="https://cloud.example/v1"\nmodel="m"\n'
    assert parse(text, {"u": "http://127.0.0.1:9/v1"}).upstreams[0].base_url == "http://127.0.0.1:9/v1"
    with pytest.raises(BadInputs, match="no such upstream"):
        parse(text, {"v": "https://x.example"})
    with pytest.raises(BadInputs, match="must be https"):
        parse(text, {"u": "ftp://x.example"})


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[bundle", b"x" * 1_000_001])
def test_what_is_not_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    """Bytes that are no profile give BadInput with the file's name."""
    path = tmp_path / "p.toml"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"p\.toml"):
        read_profile(path)


def test_an_absent_profile_is_named(tmp_path: Path) -> None:
    """The message names the file that is not there."""
    with pytest.raises(BadInput, match=r"absent\.toml"):
        read_profile(tmp_path / "absent.toml")


VECTORS = """
[[model]]
name = "vec"
source = "file:v.gguf"
licence = "MIT"
serves = "embedding"
context_tokens = 512
"""


def test_a_model_that_does_not_chat_is_no_rung() -> None:
    """It is in the bundle with what it serves, and in no ladder."""
    profile = parse(FAQ + VECTORS)
    assert [(model.serves, model.max_output_tokens) for model in profile.models] == [("embedding", 0)]
    assert profile.ladder.chat == ("f", "message")
    assert "vec" not in {rung.target for rung in profile.ladder.rungs}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (FAQ + VECTORS.replace('"embedding"', '"speech"'), "serves is 'speech'"),
        (FAQ + VECTORS + "max_output_tokens = 5\n", "max_output_tokens is for chat models"),
        (FAQ + VECTORS + '[ladder]\nchat = ["vec", "message"]\n', "chat names 'vec'"),
        (FAQ + VECTORS.replace('"vec"', '"e"'), "the name 'e' is used twice"),
        (FAQ + VECTORS.replace('"vec"', '"f"'), "the name 'f' is used twice"),
        (VECTORS, "nothing to answer with"),
    ],
)
def test_models_that_do_not_chat_are_checked(text: str, expected: str) -> None:
    """Also against what only a chat model has."""
    with pytest.raises(BadInputs) as caught:
        parse(text)
    assert expected in "\n".join(caught.value.issues)


def test_what_a_box_must_keep_to_is_set_or_generous() -> None:
    """The limits of the self-test: a small machine keeps to the defaults."""
    plain = parse(FAQ + "[selftest]\ncases = []\n").selftest
    assert plain is not None
    assert (plain.model_ms, plain.search_ms, plain.memory_mb) == (60_000, 5_000, 0)
    bound = parse(FAQ + "[selftest]\ncases = []\nmodel_ms = 900\nsearch_ms = 50\nmemory_mb = 4000\n").selftest
    assert bound is not None
    assert (bound.model_ms, bound.search_ms, bound.memory_mb) == (900, 50, 4000)


@pytest.mark.parametrize("line", ["model_ms = 0", "search_ms = 700000", "memory_mb = -1", "memory_mb = 1.5"])
def test_a_limit_that_is_none_is_told(line: str) -> None:
    """With the bounds."""
    with pytest.raises(BadInputs, match=line.split()[0]):
        parse(FAQ + f"[selftest]\ncases = []\n{line}\n")
