"""`[[vectors]]`: which store, and what keeps a table from being one."""

from pathlib import Path
from typing import Any

import pytest

from bundler.format.errors import BadInputs
from bundler.profile.model import Profile
from bundler.profile.read import parse_profile
from bundler.profile.vectors import url_issues

EMBEDDING = {"name": "minilm", "source": "file:model/", "licence": "MIT"}


def parsed(*tables: dict[str, Any], embedding: dict[str, Any] | None = EMBEDDING) -> Profile:
    values: dict[str, Any] = {"bundle": {"name": "p", "title": "P"}, "vectors": list(tables)}
    return parse_profile(values | ({"embedding": embedding} if embedding else {}), Path(), "profile", {})


def table(**options: Any) -> dict[str, Any]:
    return {"name": "notes", "source": "file:chroma", "embedding": "minilm", **options}


def test_a_store_is_a_collection_with_a_rung() -> None:
    """It answers /v1/ask and chats as documents do."""
    profile = parsed(table())
    (entry,) = profile.vectors
    assert (entry.kind, entry.url, entry.recall_percent, entry.reembed, entry.whole) == ("", "", 90, False, False)
    assert profile.ladder.ask == ("notes", "message")
    assert ("notes", "documents") in [(rung.name, rung.kind) for rung in profile.ladder.rungs]


@pytest.mark.parametrize(
    ("source", "kind"),
    [("file:a/b.faiss", "faiss"), ("file:x.index", "faiss"), ("file:x.JSONL", "jsonl"), ("file:chroma", "")],
)
def test_a_kind_is_told_by_the_name(source: str, kind: str) -> None:
    """A folder's is told when it is opened."""
    texts = {"texts": "file:t.jsonl"} if kind == "faiss" else {}
    assert parsed(table(source=source, **texts)).vectors[0].kind == kind


@pytest.mark.parametrize(
    "url", ["https://chroma.example:8443", "http://127.0.0.1:8000", "http://[::1]:8000", "http://localhost:8000/"]
)
def test_a_server_is_reached_by_https_or_on_loopback(url: str) -> None:
    """Vectors and texts are the customer's."""
    entry = parsed(table(source=f"chroma:{url}", token="env:CHROMA")).vectors[0]
    assert (entry.kind, entry.url) == ("chroma", url)


@pytest.mark.parametrize(
    ("options", "issue"),
    [
        ({"source": "chroma:http://chroma.example:8000"}, "must be https"),
        ({"source": "chroma:ftp://127.0.0.1"}, "must be https"),
        ({"source": "chroma:https://user:pass@host"}, "host and a port only"),
        ({"source": "chroma:https://host/path"}, "host and a port only"),
        ({"source": "chroma:https://host:99999"}, "Port out of range"),
        ({"source": "hub:org/repo@main/x"}, "expected file:PATH or chroma:https://HOST:PORT"),
        ({"source": "chroma:https://host", "kind": "faiss"}, "a chroma: source is of the kind 'chroma'"),
        ({"source": "x.faiss"}, "expected file:PATH"),
        ({"source": "file:x.faiss"}, "texts names the JSONL beside a FAISS file"),
        ({"texts": "file:t.jsonl"}, "texts names the JSONL beside a FAISS file"),
        ({"token": "s3cret", "source": "chroma:https://host"}, 'token is "env:NAME"'),
        ({"token": "env:X"}, "goes with a chroma:http(s): source"),
        ({"embedding": "bge-small"}, "vectors of two models cannot be compared"),
        ({"metric": "l1"}, "expected one of cosine, ip, l2"),
        ({"kind": "milvus"}, "expected one of chroma, faiss, jsonl"),
        ({"recall_percent": 0}, "recall_percent"),
        ({"token_header": "x-other"}, "expected one of authorization, x-chroma-token"),
        ({"colection": "x"}, "colection is not known"),
    ],
)
def test_what_is_wrong_is_listed(options: dict[str, Any], issue: str) -> None:
    """At the table, with what is expected."""
    with pytest.raises(BadInputs) as refused:
        parsed(table(**options))
    assert any(issue in line for line in refused.value.issues), refused.value.issues


def test_an_embedding_model_is_needed() -> None:
    """In the profile, and named at the store unless its vectors are made anew."""
    with pytest.raises(BadInputs) as refused:
        parsed(table(), embedding=None)
    assert "[[vectors]] needs an [embedding]" in refused.value.issues
    without = {key: value for key, value in table().items() if key != "embedding"}
    with pytest.raises(BadInputs, match="embedding is missing"):
        parsed(without)
    assert parsed({**without, "reembed": True}).vectors[0].embedding == ""


def test_a_name_stands_once() -> None:
    """It is a rung's."""
    with pytest.raises(BadInputs, match="'notes' is used twice"):
        parsed(table(), table())


def test_a_password_in_an_address_is_not_repeated() -> None:
    """An unattended build writes its errors to a log."""
    (told,) = url_issues("https://user:hunter2@host:8000")
    assert "host and a port only" in told
    assert "hunter2" not in told
