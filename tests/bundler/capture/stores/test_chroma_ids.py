"""The ids of a server's page, as they come: what is no plain list at its beginning is left to the confined child."""

import json

import pytest

from bundler.capture.stores.chroma_ids import SeenIds
from bundler.format.errors import BadInput


@pytest.mark.parametrize(
    "page",
    [
        b"",
        b"<html>",
        b'{"metadatas":[{"ids":["a","a"]}],"ids":["a"]}',
        b'{"ids":["a",1,"a"]}',
        b'{"ids":["a","a"',
        b'{"ids":{"a":1}}',
        b'{"ids":' + b"[" * 200_000,
        b'{"ids":[NaN,"a"]}',
        b'{"ids":["' + b"a" * 100_000 + b'","b"]}',
    ],
)
def test_what_is_not_looked_at(page: bytes) -> None:
    """No such page ends the read here, and none is too deep or too long."""
    seen = SeenIds(2)
    assert seen.take(page)
    assert seen.take(page)


@pytest.mark.parametrize("ids", [["a", "b", "a"], ["\U0001f600" * 1_024, "\U0001f600" * 1_024]])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_an_id_that_stands_twice(ids: list[str], *, ascii_only: bool) -> None:
    """On one page or on two, with text or vectors behind it, however it is written."""
    page = json.dumps({"ids": ids, "documents": ["a"]}, ensure_ascii=ascii_only).encode()
    with pytest.raises(BadInput, match="stands twice"):
        SeenIds(500).take(page)
    seen = SeenIds(500)
    assert seen.take(b'{"ids":["a","\\ud83d\\ude00","\\ud800"],"documents":[')
    with pytest.raises(BadInput, match=r"the id '\?' stands twice"):
        seen.take(b' { "ids" : ["\\ud800"] }')


def test_a_page_without_rows_is_the_last() -> None:
    """Nothing is behind it."""
    assert not SeenIds(500).take(b'{"ids":[],"embeddings":null}')
