"""Where the box is reached, as its supervisor wrote it: read by root, written by a user who faces the network."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.host.doctor_network import port_finding
from appliance.host.switching import own_url
from appliance.store.layout import StateLayout
from bundler.files import exclusive


@pytest.fixture
def layout(tmp_path: Path) -> StateLayout:
    made = StateLayout(tmp_path / "state")
    made.make()
    return made


def test_it_is_told_while_the_box_is_served(layout: StateLayout) -> None:
    """What an earlier supervisor left tells nothing."""
    (layout.run / "url").write_text("https://127.0.0.1:8443\n")
    assert not own_url(layout)
    with exclusive(layout.serving, ""):
        assert own_url(layout) == "https://127.0.0.1:8443"
        assert "https://127.0.0.1:8443" in port_finding(layout, 1).fact


@pytest.mark.parametrize("what", ["link", "pipe", "device", "text", "long"])
def test_nothing_else_is_read_or_shown(layout: StateLayout, tmp_path: Path, what: str) -> None:
    """Root's doctor would show another file, wait for ever, or read until the memory ends."""
    url = layout.run / "url"
    secret = tmp_path / "shadow"
    secret.write_text("https://root.password:1")
    make: dict[str, Callable[[], object]] = {
        "link": lambda: url.symlink_to(secret),
        "pipe": lambda: os.mkfifo(url),
        "device": lambda: url.symlink_to("/dev/zero"),
        "text": lambda: url.write_text("root:x:0"),
        "long": lambda: url.write_text("https://" + "a" * 400 + ":1"),
    }
    make[what]()
    with exclusive(layout.serving, ""):
        assert not own_url(layout)
