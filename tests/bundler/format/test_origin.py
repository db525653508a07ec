"""Origins: what a policy may name, and one spelling for each."""

from __future__ import annotations

import pytest

from bundler.format.trust.policy import origin


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.example.com", "https://api.example.com:443"),
        ("https://API.Example.com/v1?x=1#y", "https://api.example.com:443"),
        ("http://127.0.0.1", "http://127.0.0.1:80"),
        ("https://a:8443/", "https://a:8443"),
        ("https://a:", "https://a:443"),
        ("HTTPS://a", "https://a:443"),
        ("http://[::1]:9", "http://[::1]:9"),
        ("https://[2001:DB8::1]/v1", "https://[2001:db8::1]:443"),
    ],
)
def test_an_origin_has_one_spelling(url: str, expected: str) -> None:
    """Scheme and host in lower case, the port always written; its own origin is itself."""
    assert origin(url) == expected
    assert origin(expected) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "//a",
        "a.example",
        "ftp://a",
        "file:///etc/passwd",
        "https://",
        "https:///v1",
        "https://:443",
        "https://a b",
        "https://.a",
        "https://a.",
        "https://-a",
        "https://*.example",
        "https://" + "a" * 255,
        "https://a\n.example",
        "https://a.example\n",
        "\x00https://a",
        "https://user@a",
        "https://user:secret@a",
        "https://@a",
        "https://a:0",
        "https://a:65536",
        "https://a:x",
        "https://a:-1",
        "http://[::1",
        "http://::1",
        "https://[v1.x]",
        "https://[::1%25eth0]",
        "https://[fe80::1%eth0]",
        "https://\u00fcn\u00ef.example",
        "https://\uff11.example",
    ],
)
def test_what_is_no_origin_is_told_with_its_text(url: str) -> None:
    """Every refusal names what was typed, whoever found the fault."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is what is asserted
        origin(url)
    assert repr(url) in str(caught.value)
