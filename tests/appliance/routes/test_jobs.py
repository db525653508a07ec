"""Requests that nobody waits for, over HTTP: kept before they are acknowledged, answered once, their caller's alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from appliance.answer.jobs import BOUNDS, Jobs
from appliance.edge.grant import Grant
from appliance.records import delivery
from appliance.records.cipher import Cipher
from appliance.records.entry import JOB, Bounds
from appliance.records.journal import Journal
from appliance.records.thread import JournalThread
from bundler.format.service import RouteSpec

if TYPE_CHECKING:
    from tests.appliance.routes.conftest import FakeBox, World, Worlds

CIPHER = Cipher(b"s" * 32, "jobs")
LATER = {"Prefer": "respond-async, wait=10"}
WHOLE = "[alpha] one two three four"


def journal(folder: Path, bounds: Bounds = BOUNDS) -> Journal:
    return Journal(folder / "jobs.db", CIPHER, bounds)


def taking(*rungs: str, keep_s: int = 3_600) -> Callable[[FakeBox], None]:
    """Returns a change of the box: a route `desk` that takes jobs."""

    def change(box: FakeBox) -> None:
        route = RouteSpec("desk", rungs or ("alpha", "message"), jobs_keep_s=keep_s)
        box.service = replace(box.service, routes=(route,))

    return change


@pytest.fixture(autouse=True)
def clock(worlds: Worlds, tmp_path: Path) -> dict[str, Any]:
    """Gives the boxes of a test one journal of jobs, which looks often; `bounds` and `ahead_s` may be changed."""
    clock: dict[str, Any] = {"ahead_s": 0.0, "bounds": BOUNDS}

    def make(_: FakeBox) -> Jobs:
        thread = JournalThread(lambda: journal(tmp_path, clock["bounds"]), tmp_path / "jobs.lock")
        return Jobs(thread, lambda: time.time() + clock["ahead_s"], look_s=0.05)

    worlds.jobs = make
    return clock


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a job that nobody could answer be tried again after half a second at most, where the box waits five."""
    monkeypatch.setattr(delivery, "FIRST_S", 0.5)


def post(world: World, text: str = "hello", headers: dict[str, str] | None = None, **options: Any) -> httpx.Response:
    body = {"model": "desk", "messages": [{"role": "user", "content": text}], **options}
    return world.http.post("/v1/chat/completions", json=body, headers=LATER | (headers or {}))


def ended(world: World, where: str) -> dict[str, Any]:
    """Waits for the end of a job."""
    end_s = time.monotonic() + 30
    while (found := world.http.get(where).json())["status"] in ("queued", "in_progress"):
        assert time.monotonic() < end_s, found
        time.sleep(0.05)
    return dict(found)


def test_a_job_is_taken_answered_and_fetched(worlds: Worlds) -> None:
    """202 with the place to look, and there the answer as it would have come, with what served it."""
    world = worlds.make(change=taking())
    reply = post(world)
    assert (reply.status_code, reply.headers["Preference-Applied"]) == (202, "respond-async")
    assert int(reply.headers["Retry-After"]) > 0
    where = reply.headers["Location"]
    assert where == f"/v1/jobs/{reply.json()['id']}"
    assert (reply.json()["object"], reply.json()["status"], reply.json()["ended_at"]) == ("job", "queued", None)
    found = ended(world, where)
    assert found["status"] == "completed"
    assert found["response"]["choices"][0]["message"]["content"] == WHOLE
    assert found["response"]["lifeboat"]["rung"] == "alpha"
    assert found["expires_at"] == found["ended_at"] + 3_600
    assert "Retry-After" not in world.http.get(where).headers
    assert len(world.cloud.asked) == 1


def test_a_text_completion_may_be_one_too(worlds: Worlds) -> None:
    """`/v1/completions` takes the same preference."""
    world = worlds.make(change=taking())
    reply = world.http.post("/v1/completions", json={"model": "desk", "prompt": "hello"}, headers=LATER)
    assert ended(world, reply.headers["Location"])["response"]["choices"][0]["text"] == WHOLE


@pytest.mark.parametrize(
    ("options", "headers"),
    [({"stream": True}, {}), ({"model": "auto"}, {}), ({}, {"Prefer": "wait=10, return=minimal"})],
)
def test_a_preference_that_does_not_apply_is_passed_over(
    worlds: Worlds, options: dict[str, Any], headers: dict[str, str]
) -> None:
    """Streams, routes that take none, other preferences: the caller waits as ever, and is not told otherwise."""
    world = worlds.make(change=taking())
    reply = post(world, headers=headers, **options)
    assert reply.status_code == 200
    assert "Preference-Applied" not in reply.headers


def test_one_key_is_one_job(worlds: Worlds) -> None:
    """Again with the key: the same job, before and after its end; another request: 422; another tenant: another job."""
    world = worlds.make(change=taking())
    key = {"Idempotency-Key": "k-1"}
    first = post(world, headers=key)
    assert post(world, headers=key).headers["Location"] == first.headers["Location"]
    ended(world, first.headers["Location"])
    again = post(world, headers=key)
    assert (again.status_code, again.json()["status"]) == (202, "completed")
    other = post(world, "something else", headers=key)
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
    token, _ = world.tokens.create("other", now_s=1_000)
    theirs = post(world, "something else", headers=key | {"Authorization": f"Bearer {token}"})
    assert theirs.status_code == 202
    assert theirs.headers["Location"] != first.headers["Location"]
    assert post(world).headers["Location"] != post(world).headers["Location"]


def test_a_job_is_its_tenants_alone(worlds: Worlds) -> None:
    """Nobody else can look at it or end it, or learn that it is there."""
    world = worlds.make(change=taking())
    where = post(world).headers["Location"]
    token, _ = world.tokens.create("other", now_s=1_000)
    other = {"Authorization": f"Bearer {token}"}
    replies = [world.http.get(where, headers=other), world.http.delete(where, headers=other)]
    replies.append(world.http.get("/v1/jobs/job-nothing"))
    assert {(reply.status_code, reply.text) for reply in replies} == {(404, replies[0].text)}
    assert ended(world, where)["status"] == "completed"
    assert world.http.get(where, headers={"Authorization": ""}).status_code == 401


def test_a_token_of_a_verb_may_look_at_its_jobs(worlds: Worlds) -> None:
    """Who may chat may fetch what came of it."""
    world = worlds.make(change=taking())
    token, _ = world.tokens.create("chat", now_s=1_000, grant=Grant(verbs=("chat",)))
    theirs = {"Authorization": f"Bearer {token}"}
    where = post(world, headers=theirs).headers["Location"]
    assert world.http.get(where, headers=theirs).status_code == 200


def test_a_job_waits_until_a_rung_serves(worlds: Worlds, short_pauses: None) -> None:
    """Words of regret are no answer to who does not wait; the provider's return is."""
    world = worlds.make(change=taking())
    world.cloud.behaviour = "503"
    where = post(world).headers["Location"]
    end_s = time.monotonic() + 30
    while (found := world.http.get(where).json())["note"] != "no rung serves it now":
        assert time.monotonic() < end_s
        time.sleep(0.02)
    assert (found["status"], "response" in found, found["tries"]) == ("queued", False, 0)
    world.cloud.behaviour = "ok"
    assert ended(world, where)["status"] == "completed"


def test_a_request_that_is_refused_fails_with_its_error(worlds: Worlds) -> None:
    """As the caller would have got it; it is not tried again."""
    world = worlds.make(change=taking())
    world.cloud.behaviour, world.cloud.message = "400", "temperature must be below 2"
    found = ended(world, post(world).headers["Location"])
    assert (found["status"], found["error"]["message"]) == ("failed", "temperature must be below 2")
    assert len(world.cloud.asked) == 1


def test_a_job_ends_when_its_time_is_over(worlds: Worlds, clock: dict[str, Any]) -> None:
    """A job that nobody could answer fails; its outcome is forgotten after as long again."""
    world = worlds.make(change=taking(keep_s=100))
    world.cloud.behaviour = "503"
    where = post(world).headers["Location"]
    clock["ahead_s"] = 101
    found = ended(world, where)
    assert (found["status"], found["error"]["code"]) == ("failed", "job_given_up")
    clock["ahead_s"] = 250
    assert world.http.get(where).status_code == 404


def test_a_job_is_ended_and_forgotten(worlds: Worlds, tmp_path: Path) -> None:
    """`DELETE` closes the provider's connection, and nothing of the job is left."""
    world = worlds.make(change=taking())
    world.cloud.behaviour = "silent"
    where = post(world).headers["Location"]
    end_s = time.monotonic() + 30
    while not world.cloud.asked:
        assert time.monotonic() < end_s
        time.sleep(0.02)
    assert world.http.delete(where).json() == {"id": where.rpartition("/")[2], "object": "job", "deleted": True}
    assert world.cloud.gone.wait(20)
    assert world.http.get(where).status_code == 404
    assert world.http.delete(where).status_code == 404


def test_jobs_are_bounded(worlds: Worlds, clock: dict[str, Any]) -> None:
    """429 where the caller has too many, 507 where the box has, 413 for one that is too long; none is half kept."""
    clock["bounds"] = Bounds(entries=3, payload_bytes=10_000, one_bytes=5_000, tenant_entries=2, outcomes_count=True)
    world = worlds.make(change=taking())
    world.cloud.behaviour = "503"
    assert [post(world).status_code for _ in range(3)] == [202, 202, 429]
    reply = post(world)
    assert (reply.json()["error"]["code"], "Retry-After" in reply.headers) == ("too_many_jobs", True)
    token, _ = world.tokens.create("other", now_s=1_000)
    other = {"Authorization": f"Bearer {token}"}
    assert post(world, "x" * 6_000, headers=other).status_code == 413
    assert [post(world, headers=other).status_code for _ in range(2)] == [202, 507]


def test_a_journal_that_cannot_be_used_promises_nothing(worlds: Worlds, tmp_path: Path) -> None:
    """507 and no 202; requests that wait are answered as ever; readiness tells."""
    (tmp_path / "jobs.db").mkdir()
    world = worlds.make(change=taking())
    reply = post(world)
    assert (reply.status_code, reply.json()["error"]["code"]) == (507, "jobs_not_kept")
    assert world.chat(model="desk").status_code == 200
    assert world.http.get("/health/ready").json()["jobs"]["trouble"].startswith("its file cannot be used")
    (tmp_path / "jobs.db").rmdir()
    assert ended(world, post(world).headers["Location"])["status"] == "completed"


def test_a_revoked_token_s_job_costs_nothing(worlds: Worlds, short_pauses: None) -> None:
    """Nobody could fetch its answer, so no provider is asked."""
    world = worlds.make(change=taking())
    world.cloud.stop()
    post(world)
    token, made = world.tokens.create("other", now_s=1_000)
    assert post(world, "for nobody", headers={"Authorization": f"Bearer {token}"}).status_code == 202
    world.tokens.revoke(made.id)

    def until(state: str, count: int) -> None:
        end_s = time.monotonic() + 60
        while world.http.get("/health/ready").json()["jobs"][state] != count:
            assert time.monotonic() < end_s
            time.sleep(0.02)

    until("running", 0)  # what had begun before the token was revoked has ended
    world.cloud.start()
    until("ended", 2)
    assert {body["messages"][0]["content"] for body in world.cloud.asked} == {"hello"}


@pytest.mark.parametrize(("begins", "status"), [(1, "completed"), (2, "failed")])
def test_a_job_under_which_the_box_died_is_done_once_more(
    worlds: Worlds, tmp_path: Path, begins: int, status: str
) -> None:
    """Begun once and not ended: again. Begun twice: it may be what kills the box, and is given up."""
    first = worlds.make(change=taking())
    first.cloud.behaviour = "silent"
    where = post(first, headers={"Idempotency-Key": "k"}).headers["Location"]
    end_s = time.monotonic() + 30
    while not first.cloud.asked:
        assert time.monotonic() < end_s
        time.sleep(0.02)
    # What a kill leaves: the row as begun, and nobody's lock. A copy, since this box lives.
    with journal(tmp_path) as here:
        entry = here.entry(where.rpartition("/")[2])
        assert entry is not None
        assert (entry.state, entry.tries) == ("begun", 1)
        with Journal(tmp_path / "killed.db", CIPHER, BOUNDS) as killed:
            killed.accept(JOB, entry.tenant, "key k", here.payload(entry), new_id=lambda: entry.id, now_s=entry.made_s)
            for _ in range(begins):
                killed.begin(entry)
    thread = JournalThread(lambda: Journal(tmp_path / "killed.db", CIPHER, BOUNDS), tmp_path / "killed.lock")
    worlds.jobs = lambda _: Jobs(thread, look_s=0.05)
    again = worlds.make(change=taking())
    with httpx.Client(base_url=again.url, headers={"Authorization": f"Bearer {first.token}"}) as http:
        again.http = http
        found = ended(again, where)
        assert found["status"] == status
        known = post(again, headers={"Idempotency-Key": "k"})
    assert known.json()["id"] == entry.id
    assert len(again.cloud.asked) == 2 - begins


def test_a_box_that_stops_hands_its_jobs_on(worlds: Worlds, tmp_path: Path) -> None:
    """What runs then waits again, and that costs it no try."""
    world = worlds.make(change=taking())
    world.cloud.behaviour = "silent"
    where = post(world).headers["Location"]
    end_s = time.monotonic() + 30
    while not world.cloud.asked:
        assert time.monotonic() < end_s
        time.sleep(0.02)
    worlds.stop()
    with journal(tmp_path) as here:
        entry = here.entry(where.rpartition("/")[2])
    assert entry is not None
    assert (entry.state, entry.tries, entry.words) == ("waiting", 0, "the box stopped")


def test_nothing_of_a_job_is_readable_on_the_disk(worlds: Worlds, tmp_path: Path) -> None:
    """Neither what was asked nor what came of it; metrics tell how many there are."""
    world = worlds.make(change=taking())
    where = post(world, "the printer of Mr. Okonkwo", headers={"Idempotency-Key": "finch-key"}).headers["Location"]
    ended(world, where)
    raw = b"".join(path.read_bytes() for path in tmp_path.glob("jobs.db*"))
    assert [text for text in (b"Okonkwo", b"one two three", b"finch-key") if text in raw] == []
    page = world.http.get("/metrics").text
    assert 'lifeboat_jobs{state="waiting"} 0.0' in page
    assert "lifeboat_jobs_oldest_seconds 0.0" in page


def test_those_who_wait_go_first(worlds: Worlds) -> None:
    """An engine is told that a job stands behind everybody, and the job is tried again where it has no room."""
    world = worlds.make(change=taking("small", "message"))
    assert ended(world, post(world).headers["Location"])["status"] == "completed"
    waiting = world.chat(model="desk", service_tier="flex")
    assert waiting.status_code == 200
    job, patient = (int(headers["X-Lifeboat-Priority"]) for headers in world.engine.headers)
    assert job > patient > 0


def test_what_a_job_used_counts_for_its_token(worlds: Worlds) -> None:
    """Model tokens of a day are counted at its end, and a token that has used its day up waits for the next."""
    world = worlds.make(change=taking())
    token, _ = world.tokens.create("other", now_s=1_000, grant=Grant(tokens_a_day=5))
    theirs = {"Authorization": f"Bearer {token}"}
    where = post(world, headers=theirs).headers["Location"]
    world.http.headers.update(theirs)
    assert ended(world, where)["status"] == "completed"
    assert post(world).status_code == 429


def test_a_job_goes_where_its_token_lets_it_go(worlds: Worlds) -> None:
    """The regions of the token hold when it runs, too."""
    world = worlds.make(change=taking("alpha", "small", "message"))
    token, _ = world.tokens.create("here", now_s=1_000, grant=Grant(regions=("elsewhere",)))
    theirs = {"Authorization": f"Bearer {token}"}
    where = post(world, headers=theirs).headers["Location"]
    world.http.headers.update(theirs)
    assert ended(world, where)["response"]["lifeboat"]["rung"] == "small"
    assert world.cloud.asked == []
