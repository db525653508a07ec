"""A fault of this program is not told as the hub's: it comes out as it was raised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from huggingface_hub import HfApi

from bundler.format.errors import SourceFailed
from bundler.sources import hub_client, hub_session
from bundler.sources.hub_part import PartFile
from bundler.sources.source import Fetched

Pull = Callable[..., Fetched]
SOURCE, DATA = "hub:org/name/model.gguf", bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def filled(local_hub: Any) -> None:
    local_hub.add("org/name", {"model.gguf": DATA})


def _wrong(kind: type[Exception]) -> Any:
    """Returns a function of the program itself, as far as a traceback tells, that raises."""
    names: dict[str, Any] = {"__name__": "bundler.sources.wrong", "kind": kind}
    exec("def wrong(*_, **__): raise kind('ours')", names)  # its module's name is what is tested
    return names["wrong"]


@pytest.mark.parametrize("kind", [KeyError, TypeError, ValueError, AttributeError, RecursionError])
@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (hub_client, "make_listing"),  # beside the library
        (hub_client, "card_licence"),
        (hub_session, "asked_s"),  # called back from below it
        (hub_session, "origin"),
        (PartFile, "write"),
    ],
)
def test_a_fault_of_ours_comes_out(
    local_hub: Any,
    pull: Pull,
    fault: Any,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[Exception],
    owner: Any,
    name: str,
) -> None:
    """Whether the library called the code that is wrong or not."""
    if name == "asked_s":
        local_hub.break_(fault("status", status=503))
    monkeypatch.setattr(owner, name, _wrong(kind))
    with pytest.raises(kind, match="ours"):
        pull(SOURCE)


def test_a_call_that_the_library_does_not_know_comes_out(pull: Pull, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new version of it that takes other arguments is our fault, and no broken hub."""
    monkeypatch.setattr(HfApi, "model_info", lambda self, repo: None)
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        pull(SOURCE)


@pytest.mark.parametrize(("stage", "body"), [("info", b"null"), ("info", b"<html>"), ("tree", b'[{"type": "file"}]')])
def test_what_no_hub_answers_is_told(local_hub: Any, pull: Pull, fault: Any, stage: str, body: bytes) -> None:
    """Where the library cannot read the answer, it is the hub's."""
    local_hub.break_(fault("body", stage=stage, body=body, times=9))
    with pytest.raises(SourceFailed, match="is not what a hub answers") as failed:
        pull(SOURCE)
    assert failed.value.hint == "is HF_ENDPOINT a hub?"


@pytest.mark.parametrize("to", ["http://127.0.0.1:99999/a", "http://[::1/a", "http://127.0.0.1:x/a"])
def test_an_address_that_is_none_is_the_hubs(local_hub: Any, pull: Pull, fault: Any, to: str) -> None:
    """Where a file is said to lie is foreign, and read by us."""
    local_hub.break_(fault("redirect", stage="head", times=999, headers={"Location": to}))
    with pytest.raises(SourceFailed):
        pull(SOURCE)
