"""What `doctor` says of trust, expiry, the clock, and the providers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from appliance.host.doctor_network import egress_finding, upstream_findings
from appliance.host.doctor_state import cache_findings, clock, expiry, trust_findings
from appliance.host.finding import Finding
from appliance.host.outlook import RungTold
from appliance.records.cache import CacheFile
from appliance.records.cipher import Cipher
from appliance.store.layout import StateLayout
from bundler.format.service import LadderSpec, RungSpec, Service, UpstreamSpec

NOW = datetime(2026, 11, 21, tzinfo=UTC)
CLOUD = UpstreamSpec("cloud", "http://127.0.0.1:9/v1", "large", "CLOUD", "", 2000, 10_000, 15_000)
EGRESS = ("http://127.0.0.1:9",)
READY = RungTold("cloud", "upstream", "ready", "")


def expiries(**days: int) -> dict[str, datetime]:
    return {role: NOW + timedelta(days=left) for role, left in days.items()}


def test_the_first_to_expire_is_told() -> None:
    """With the days that are left."""
    found = expiry(expiries(root=900, targets=200, content=300), NOW)
    assert (found.state, found.hint) == ("good", "")
    assert found.fact == "targets is the first to expire, in 200 days, on 2027-06-09"


@pytest.mark.parametrize(("days", "state"), [(61, "good"), (60, "good"), (59, "warn"), (1, "warn"), (-1, "warn")])
def test_warnings_begin_sixty_days_before(days: int, state: str) -> None:
    """And expiry itself is no more: it never stops what runs."""
    assert expiry(expiries(root=900, timestamp=days), NOW).state == state


def test_what_has_expired_is_named() -> None:
    """All of it, and since when the first."""
    found = expiry(expiries(root=900, timestamp=-3, snapshot=-10), NOW)
    assert found.fact == "expired: snapshot, timestamp, the first 10 days ago"
    assert "medium that was signed again" in found.hint


def test_a_clock_before_the_newest_signed_time_is_bad() -> None:
    """A box whose battery is empty must be told so."""
    assert clock("2026-11-20T00:00:00+00:00", NOW).state == "good"
    assert clock("2026-11-22T00:00:00+00:00", NOW).state == "bad"


def test_without_a_root_nobody_is_trusted_yet(tmp_path: Path) -> None:
    """A root that cannot be read is bad; none at all is a box before its first medium."""
    layout = StateLayout(tmp_path)
    layout.make()
    (none,) = trust_findings(layout, NOW)
    assert (none.state, "no root is pinned" in none.fact) == ("warn", True)
    (layout.trust / "root.json").write_text("{}")
    (broken,) = trust_findings(layout, NOW)
    assert (broken.state, "cannot be read" in broken.fact) == ("bad", True)


def provider(
    upstream: UpstreamSpec, secrets: dict[str, str], *rungs: RungTold, online: bool = False, egress: Any = EGRESS
) -> Finding:
    ladder = LadderSpec((RungSpec("cloud", "upstream", "cloud"),), ("cloud",), (), "", "", "")
    service = cast("Service", type("Part", (), {"upstreams": (upstream,), "ladder": ladder}))
    (found,) = upstream_findings(service, egress, secrets, rungs, online=online)
    return found


def test_a_key_that_is_not_set_is_told() -> None:
    """With the command that sets it; one that the environment should hold says so."""
    found = provider(CLOUD, {})
    assert (found.state, found.hint) == ("warn", "lifeboat-appliance secret set CLOUD")
    assert provider(replace(CLOUD, key="env:LIFEBOAT_ABSENT"), {}).hint.startswith(
        "set it in the service's environment"
    )
    assert provider(CLOUD, {"CLOUD": "k"}).state == "good"
    assert provider(replace(CLOUD, key=""), {}).fact.startswith("it needs no key")


def test_what_the_serving_process_knows_counts() -> None:
    """It may see a variable that this shell does not; and it has heard the provider's refusal."""
    assert provider(replace(CLOUD, key="env:LIFEBOAT_ABSENT"), {}, READY).state == "good"
    refused = replace(READY, state="failing", reason="it does not accept our key (401)")
    found = provider(CLOUD, {"CLOUD": "old"}, refused)
    assert (found.state, found.fact) == ("warn", "it does not accept our key (401)")
    assert found.hint == "renew it: lifeboat-appliance secret set CLOUD"
    down = provider(CLOUD, {"CLOUD": "k"}, replace(READY, state="failing", reason="connection refused"))
    assert (down.state, "failing: connection refused" in down.fact) == ("warn", True)


def test_an_address_off_the_list_is_bad() -> None:
    """The policy decides, not the profile."""
    assert provider(CLOUD, {"CLOUD": "k"}, egress=()).state == "bad"
    assert egress_finding(()).fact.endswith("talk to nobody")
    assert egress_finding(EGRESS).fact.endswith("talk to http://127.0.0.1:9")


@contextmanager
def answering(status: int) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.path} {self.headers.get('Authorization')}")
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "state", "words"),
    [(200, "good", "answers 200"), (401, "warn", "does not accept our key"), (503, "warn", "answers 503")],
)
def test_online_asks_the_provider_with_our_key(status: int, state: str, words: str) -> None:
    """Only then, and only for the list of its models."""
    with answering(status) as (origin, asked):
        there = replace(CLOUD, base_url=f"{origin}/v1")
        assert "not asked now" in provider(there, {"CLOUD": "k"}, egress=(origin,)).fact
        assert asked == []
        found = provider(there, {"CLOUD": "k"}, online=True, egress=(origin,))
    assert (found.state, words in found.fact) == (state, True)
    assert asked == ["/v1/models Bearer k"]


def test_a_provider_that_is_not_there_is_told() -> None:
    """Name service, routes and firewalls are where to look."""
    found = provider(CLOUD, {"CLOUD": "k"}, online=True)
    assert (found.state, found.fact.startswith("not reached: ")) == ("warn", True)


def test_the_answer_cache_is_told(tmp_path: Path) -> None:
    """Nothing where there is none, what it holds, and that it is damaged, with the way out."""
    layout = StateLayout(tmp_path)
    assert list(cache_findings(layout)) == []
    with CacheFile(layout.cache, Cipher(b"s" * 32, "cache")) as cache:
        cache.put("t", b"q", b"x" * 5_000, now_s=100, keep_s=50)
    (found,) = cache_findings(layout)
    assert (found.state, found.fact) == ("good", "1 answers are kept, 4 KiB, sealed")
    layout.cache.write_bytes(b"not a database " * 500)
    (found,) = cache_findings(layout)
    assert (found.state, "damaged" in found.fact, "made anew" in found.hint) == ("warn", True, True)
