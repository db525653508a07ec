"""`lifeboat copy` with `oci:`: what a person types, and what is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result


def test_there_and_back(
    lifeboat: Callable[..., Result], repository: Path, passphrase: Path, registry: Any, tmp_path: Path
) -> None:
    """Pushed for a site and pulled into a folder, in words and as JSON."""
    place = f"oci:{registry.host}/cli/office:main"
    keys = ("--passphrase-file", passphrase)
    pushed = lifeboat("copy", repository, place, "--site", "bristol", *keys)
    assert pushed.exit_code == 0, pushed.output
    assert f"{place}@sha256:" in pushed.output
    again = json.loads(lifeboat("copy", repository, place, "--site", "bristol", "--json", *keys).stdout)
    assert again["sent_bytes"] == 0
    pulled = lifeboat("copy", place, tmp_path / "usb")
    assert pulled.exit_code == 0, pulled.output
    assert "for bristol" in pulled.output
    assert lifeboat("verify", tmp_path / "usb").exit_code == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("oci:h/a", "oci:h/b"), "both are in a registry"),
        (("REPO", "oci:h/a", "--site", "bristol", "--full"), "--full is for a medium"),
        (("oci:h/a", "usb", "--full"), "--full is for a medium"),
        (("oci:h/a", "usb", "--mount-from", "b"), "--mount-from is for a push"),
        (("REPO", "usb", "--site", "bristol", "--mount-from", "b"), "--mount-from is for a push"),
        (("REPO", "oci:h/A", "--site", "bristol"), "is not a reference"),
        (("REPO", f"oci:127.0.0.1:9/a@sha256:{'ab' * 32}", "--site", "bristol"), "names a digest"),
        (("REPO", "oci:127.0.0.1:9/a", "--site", "bristol", "--mount-from", "../x"), "is not a name in a registry"),
    ],
)
def test_what_is_typed_wrong(
    lifeboat: Callable[..., Result], repository: Path, words: tuple[str, ...], told: str
) -> None:
    """Each with what is due, before a key is opened or a host is asked."""
    done = lifeboat("copy", *(repository if word == "REPO" else word for word in words))
    assert (done.exit_code, told in done.output) == (3, True), done.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("REPO", "oci:h/a"), "--site NAME is missing"),
        (("REPO", "usb"), "--site NAME is missing"),
        (("nowhere", "usb", "--site", "bristol"), "is no folder"),
    ],
)
def test_what_is_left_out(lifeboat: Callable[..., Result], repository: Path, words: tuple[str, ...], told: str) -> None:
    """As of any command: exit code 2."""
    done = lifeboat("copy", *(repository if word == "REPO" else word for word in words))
    assert (done.exit_code, told in done.output) == (2, True), done.output


def test_what_is_not_for_a_registry(
    lifeboat: Callable[..., Result], repository: Path, passphrase: Path, tmp_path: Path
) -> None:
    """A site that is not there is told as in a copy to a stick."""
    words = ("--site", "paris", "--passphrase-file", passphrase)
    done = lifeboat("copy", repository, "oci:127.0.0.1:9/a", *words)
    assert (done.exit_code, "has no site paris" in done.output) == (3, True), done.output
