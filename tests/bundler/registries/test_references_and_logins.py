"""References, credentials, and what a registry may say of itself: read strictly, told plainly."""

from __future__ import annotations

import base64
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bundler.format.errors import BadInput, SourceFailed
from bundler.registries.logins import Login, find
from bundler.registries.reference import is_loopback, parse, parse_name
from bundler.registries.wire import Wire, _pairs


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("oci:registry.example/office", ("registry.example", "office", "latest", "")),
        ("oci:registry.example:5000/a/b_c/d-e.f:v1", ("registry.example:5000", "a/b_c/d-e.f", "v1", "")),
        (f"oci:[::1]:5000/a@sha256:{'ab' * 32}", ("[::1]:5000", "a", "", f"sha256:{'ab' * 32}")),
        (f"oci:h/a:t@sha256:{'ab' * 32}", ("h", "a", "t", f"sha256:{'ab' * 32}")),
    ],
)
def test_a_reference_is_read(text: str, parts: tuple[str, ...]) -> None:
    """Host, name, tag and digest; without either the tag is `latest`."""
    found = parse(text)
    assert (found.host, found.name, found.tag, found.digest) == parts
    assert str(found).startswith(text)


@pytest.mark.parametrize(
    "text",
    [
        "oci:", "oci:office", "oci:/office", "oci:host/", "oci:host/UPPER", "oci:host/a:", "oci:host/a@sha256:ab",
        "oci:host/../a", "oci:user:word@host/a", "oci:host/a?x", "oci:host/a#x", "oci:https://host/a", "oci:host /a",
        "oci:host/a\n", "oci:host/" + "a" * 256, "oci:ho\x1bst/a", "oci:host/a:-x",
    ],
)  # fmt: skip
def test_what_is_no_reference_is_refused(text: str) -> None:
    """With the form that is due, and nothing of it as a control character."""
    with pytest.raises(BadInput, match="is not a reference") as refused:
        parse(text)
    assert refused.value.fact.isprintable()
    with pytest.raises(BadInput):
        parse_name(text)


@pytest.mark.parametrize(
    ("host", "plain"),
    [
        ("localhost", True), ("localhost:5000", True), ("127.0.0.1:5000", True), ("127.8.0.1", True),
        ("[::1]:5000", True),
        ("[::1]", True), ("registry.example", False), ("localhost.example:80", False), ("127.0.0.1.example", False),
        ("10.0.0.1:5000", False), ("[fe80::1]:5000", False), ("0.0.0.0:5000", False),
    ],
)  # fmt: skip
def test_plain_http_is_for_this_machine_alone(host: str, plain: bool) -> None:
    """By its name and addresses, and by no name that only looks like one."""
    assert is_loopback(host) is plain
    assert parse(f"oci:{host}/a").origin == f"{'http' if plain else 'https'}://{host}"


def _auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def _written(path: Path, auths: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"auths": auths, "credHelpers": {"registry.example": "touch /tmp/never"}}))


def test_the_closest_entry_of_the_first_file_counts(tmp_path: Path) -> None:
    """As in containers-auth.json(5); a file that is named is the only one."""
    environment = {"XDG_RUNTIME_DIR": str(tmp_path / "run")}
    _written(tmp_path / ".docker/config.json", {"https://registry.example/v1/": _auth("docker", "d")})
    assert find("registry.example", "a/b", environment, tmp_path) == Login("docker", "d")
    _written(tmp_path / ".config/containers/auth.json", {"registry.example": _auth("config", "c")})
    assert find("registry.example", "a/b", environment, tmp_path) == Login("config", "c")
    auths = {"registry.example": _auth("host", "h"), "registry.example/a": _auth("namespace", "n:with:colons")}
    _written(tmp_path / "run/containers/auth.json", auths)
    assert find("registry.example", "a/b", environment, tmp_path) == Login("namespace", "n:with:colons")
    assert find("registry.example", "other", environment, tmp_path) == Login("host", "h")
    assert find("registry.example.evil", "a/b", environment, tmp_path) is None
    environment["REGISTRY_AUTH_FILE"] = str(tmp_path / "named")
    assert find("registry.example", "a/b", environment, tmp_path) is None
    _written(tmp_path / "named", {"registry.example": {"identitytoken": "t"}})
    assert find("registry.example", "a/b", environment, tmp_path) == Login("", "", "t")


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": {"h": {"auth": "%%%"}}}', '{"auths": {"h": {"auth": "/w=="}}}'])
def test_a_damaged_file_is_told(tmp_path: Path, text: str) -> None:
    """By its path, and without a word of what it holds."""
    (tmp_path / "auth").write_text(text)
    with pytest.raises(BadInput, match="credentials") as refused:
        find("h", "n", {"REGISTRY_AUTH_FILE": str(tmp_path / "auth")}, tmp_path)
    assert "%%%" not in refused.value.fact


def test_a_login_is_shown_nowhere() -> None:
    """Not even where an object is printed."""
    assert "secret" not in repr(Login("lena", "secret", "secret"))


@pytest.mark.parametrize("location", ["https://[", "https://registry.example:99999/x", "https://registry.example:x/"])
def test_what_is_no_url_is_refused(location: str) -> None:
    """A registry that points to nowhere is at fault, and not this program."""
    with closing(Wire("https://registry.example", None, ())) as wire, pytest.raises(SourceFailed, match="is no URL"):
        wire.resolve("https://registry.example", location)


@pytest.mark.parametrize(
    ("challenge", "pairs"),
    [
        ('realm="https://a/t",service="the, service"', {"realm": "https://a/t", "service": "the, service"}),
        ("realm=", {}),
        ('realm=,service="s"', {"service": "s"}),
        ('realm=""', {"realm": ""}),
        ("nothing", {}),
    ],
)
def test_what_a_challenge_says(challenge: str, pairs: dict[str, str]) -> None:
    """What is no pair is dropped, and one without a value is none."""
    assert _pairs(challenge) == pairs
