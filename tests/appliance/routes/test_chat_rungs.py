"""Chat through the unmodified OpenAI client: which rung answers, and what the answer says of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import openai
import pytest

if TYPE_CHECKING:
    from tests.appliance.routes.conftest import FakeBox, World, Worlds


def _until_asked_again(world: World) -> None:
    """Waits out the hold of the first provider, by asking."""
    for _ in range(200):
        if world.chat().headers["X-Lifeboat-Rung"] == "alpha":
            return
        time.sleep(0.05)
    raise AssertionError("the provider was never asked again")


def test_the_first_provider_answers_in_normal_mode(world: World) -> None:
    """With the cloud up the box passes the question on, under the provider's own model name."""
    answer = world.openai.chat.completions.create(model="auto", messages=[{"role": "user", "content": "hello"}])
    assert answer.choices[0].message.content == "[alpha] one two three four"
    assert world.cloud.asked[0]["model"] == "alpha-large"
    lifeboat = answer.model_extra["lifeboat"]  # type: ignore[index]
    assert lifeboat == {"mode": "NORMAL", "rung": "alpha", "served_by": "alpha", "reason": [], "banner": None}


def test_the_caller_s_token_never_reaches_a_provider(world: World) -> None:
    """No header of the request travels on."""
    world.http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "x"}]}, headers={"X-A": "b"})
    sent = {name.lower() for name in world.cloud.headers[0]}
    assert "authorization" not in sent
    assert "x-a" not in sent


def test_a_refused_connection_goes_to_the_local_model(world: World) -> None:
    """With the cloud gone the local model answers, with the banner, the mode and the reason."""
    world.cloud.stop()
    reply = world.chat()
    assert reply.status_code == 200
    assert reply.json()["choices"][0]["message"]["content"] == "[small] one two three four"
    assert reply.headers["X-Lifeboat-Mode"] == "LOCAL"
    assert reply.headers["X-Lifeboat-Rung"] == "small"
    assert reply.headers["X-Lifeboat-Served-By"] == "small"
    lifeboat = reply.json()["lifeboat"]
    assert lifeboat["banner"] == "Degraded mode."
    assert lifeboat["reason"] == ["alpha: connection refused"]


def test_the_cloud_is_back(world: World) -> None:
    """After the hold the provider is asked again, and the mode and the banner go."""
    world.cloud.stop()
    assert world.chat().headers["X-Lifeboat-Mode"] == "LOCAL"
    world.cloud.start()
    _until_asked_again(world)
    reply = world.chat()
    assert reply.headers["X-Lifeboat-Mode"] == "NORMAL"
    assert reply.json()["lifeboat"]["banner"] is None


def test_a_failed_provider_is_left_alone_for_a_while(worlds: Worlds) -> None:
    """After the third failure it is not asked, and the answer says why."""
    from appliance.settings import Settings

    world = worlds.make(settings=Settings(open_s=60, open_longest_s=60, probe_s=0))
    world.cloud.behaviour = "503"
    world.chat()
    world.chat()
    reasons = world.chat().json()["lifeboat"]["reason"]
    assert len(world.cloud.asked) == 3
    assert reasons[0].startswith("alpha: it answered 503; asked again in")


def test_a_second_provider_serves_in_degraded_mode(worlds: Worlds) -> None:
    """Another provider than the first is DEGRADED, not LOCAL."""
    world = worlds.make(("alpha", "beta"))
    world.cloud.behaviour = "500"
    reply = world.chat()
    assert reply.json()["choices"][0]["message"]["content"].startswith("[beta]")
    assert reply.headers["X-Lifeboat-Mode"] == "DEGRADED"
    assert reply.json()["lifeboat"]["banner"] == "Degraded mode."


def test_a_provider_that_hangs_up_is_asked_once_more(world: World) -> None:
    """A connection that broke before a header costs a tenth of a second and no rung."""
    world.cloud.behaviour = "hang up once"
    reply = world.chat()
    assert (reply.headers["X-Lifeboat-Rung"], reply.json()["lifeboat"]["reason"]) == ("alpha", [])
    assert len(world.cloud.asked) == 2


def test_a_provider_that_keeps_hanging_up_is_asked_twice(world: World) -> None:
    """The second time is the last: the next rung answers."""
    world.cloud.behaviour = "hang up"
    assert world.chat().json()["lifeboat"]["reason"] == ["alpha: it closed the connection"]
    assert len(world.cloud.asked) == 2


@pytest.mark.parametrize("first_token_ms", [1_000])
@pytest.mark.parametrize("fault", ["silent", "html", "empty", "401", "404", "302", "429"])
def test_what_will_not_pass_in_a_moment_is_asked_once(world: World, fault: str) -> None:
    """Silence above all: a silent provider stays silent."""
    world.cloud.behaviour = fault
    assert world.chat(stream=fault == "silent").headers["X-Lifeboat-Rung"] == "small"
    assert len(world.cloud.asked) == 1


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("500", "it answered 500"),
        ("429", "it is throttled (429)"),
        ("401", "it does not accept our key (401)"),
        ("403", "it denies us access (403)"),
        ("404", "it does not serve this model (404)"),
        ("410", "its model is retired (410)"),
        ("302", "it redirects (302), and redirects are not followed"),
        ("html", "the answer is not of OpenAI's wire"),
        ("in-band", "an error inside the answer"),
        ("empty", "the answer is empty"),
        ("context", "the request is longer than its context"),
    ],
)
def test_each_fault_of_a_provider_is_skipped_with_its_reason(world: World, fault: str, reason: str) -> None:
    """Whatever the provider does wrong, the local model answers, and no word of the provider leaks."""
    world.cloud.behaviour = fault
    reply = world.chat()
    assert reply.status_code == 200
    assert reply.headers["X-Lifeboat-Rung"] == "small"
    assert reply.json()["lifeboat"]["reason"] == [f"alpha: {reason}"]
    assert "sk-123" not in reply.text
    assert not any("elsewhere" in asked for asked in world.cloud.asked)


@pytest.mark.parametrize("first_token_ms", [1_000])
def test_a_silent_provider_is_given_up(worlds: Worlds) -> None:
    """Another rung answers beside one that accepts and says nothing, and its connection is closed in the end."""
    world = worlds.make()
    world.cloud.behaviour = "silent"
    reply = world.chat(stream=False)
    assert reply.headers["X-Lifeboat-Rung"] == "small"
    assert reply.json()["lifeboat"]["reason"] == ["alpha: it takes longer than this answer"]
    assert world.cloud.gone.wait(30)


def test_a_refusal_of_the_request_reaches_the_caller(world: World) -> None:
    """A provider's 400 is about the request: no other rung is asked, and the caller reads the provider's words."""
    world.cloud.behaviour, world.cloud.message = "400", "temperature is too hot"
    with pytest.raises(openai.BadRequestError) as caught:
        world.openai.chat.completions.create(model="auto", messages=[{"role": "user", "content": "x"}])
    assert caught.value.code == "some_code"
    assert "temperature is too hot" in caught.value.message
    assert world.engine.asked == []


def test_an_unlisted_provider_is_never_asked(worlds: Worlds) -> None:
    """A provider that the signed policy does not list gets no byte."""
    world = worlds.make(change=lambda box: setattr(box.policy, "egress", ("https://127.0.0.1",)))
    reply = world.chat()
    assert reply.headers["X-Lifeboat-Mode"] == "LOCAL"
    assert reply.json()["lifeboat"]["reason"] == ["alpha: its address is not on the egress list of the signed policy"]
    assert world.cloud.asked == []


def test_documents_go_in_front_of_the_local_model(world: World) -> None:
    """A question that the documents answer reaches the model with the passages, and the answer cites them."""
    world.cloud.stop()
    reply = world.chat("how fast is the wipe?")
    messages = world.engine.asked[0]["messages"]
    assert messages[0]["role"] == "system"
    assert "wiped remotely within 30 minutes" in messages[0]["content"]
    assert messages[-1] == {"role": "user", "content": "how fast is the wipe?"}
    assert reply.json()["lifeboat"]["citations"][0]["source"] == "lost-device.md"


def test_a_question_without_evidence_gets_no_passages(world: World) -> None:
    """What the documents do not hold is not put in front of the model."""
    world.cloud.stop()
    assert "citations" not in world.chat("tell me a joke").json()["lifeboat"]
    assert world.engine.asked[0]["messages"] == [{"role": "user", "content": "tell me a joke"}]


class DeadKnowledge:
    """The embedder, or the index, is dead: whatever is asked raises."""

    def evidence(self, question: str, of: object = None) -> None:
        raise RuntimeError(f"cannot embed {question}")

    faq = evidence


def test_a_dead_embedder_ends_no_answer(worlds: Worlds, caplog: pytest.LogCaptureFixture) -> None:
    """The model answers without the passages and says so; rungs that live by them are passed; no question is logged."""
    from tests.appliance.routes.conftest import without_engine

    dead = DeadKnowledge()
    world = worlds.make(change=lambda box: setattr(box, "knowledge", dead))
    world.cloud.stop()
    lifeboat = world.chat("how fast is the wipe?").json()["lifeboat"]
    assert (lifeboat["rung"], lifeboat["without"]) == ("small", "the documents and FAQs cannot be asked")

    def change(box: FakeBox) -> None:
        without_engine(box)
        setattr(box, "knowledge", dead)  # noqa: B010 - it is none

    world = worlds.make(change=change)
    world.cloud.stop()
    lifeboat = world.chat("how fast is the wipe?").json()["lifeboat"]
    assert lifeboat["rung"] == "message"
    assert "handbook: the documents and FAQs cannot be asked" in lifeboat["reason"]
    assert "wipe" not in caplog.text


def test_passages_that_make_it_too_long_are_left_out(world: World) -> None:
    """When the context overflows with passages the model is asked once more without, and refuses with figures."""
    world.cloud.stop()
    world.engine.behaviour, world.engine.message = "context", "3000 tokens do not fit 2048"
    reply = world.chat("how fast is the wipe?", model="small")
    assert [len(asked["messages"]) for asked in world.engine.asked] == [2, 1]
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "context_length_exceeded"
    assert "3000 tokens do not fit 2048" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("question", "rung", "words"),
    [
        ("when are you open?", "helpdesk", "The helpdesk is open from 07:30 to 18:30."),
        (
            "how fast is the wipe?",
            "handbook",
            "Laptops that are lost are wiped remotely within 30 minutes of the call.",
        ),
        ("what is the meaning of life?", "message", "I will not guess.\n\nPlease phone 100."),
    ],
)
def test_without_a_model_the_box_answers_from_what_it_knows(
    worlds: Worlds, question: str, rung: str, words: str
) -> None:
    """No cloud and no model: FAQ, documents, and in the end the message, each named."""
    from tests.appliance.routes.conftest import without_engine

    world = worlds.make(change=without_engine)
    world.cloud.stop()
    answer = world.openai.chat.completions.create(model="auto", messages=[{"role": "user", "content": question}])
    assert answer.choices[0].message.content == words
    assert answer.choices[0].finish_reason == "stop"
    lifeboat = answer.model_extra["lifeboat"]  # type: ignore[index]
    assert lifeboat["rung"] == rung
    assert lifeboat["mode"] == "LOCAL"
    assert "small: the local model is loading" in lifeboat["reason"]


def test_text_completions_climb_the_same_ladder(world: World) -> None:
    """`/v1/completions` is served by the cloud, then by the model."""
    assert world.openai.completions.create(model="auto", prompt="x").choices[0].text == "[alpha] one two three four"
    world.cloud.stop()
    assert world.openai.completions.create(model="auto", prompt="x").choices[0].text == "[small] one two three four"


@pytest.mark.parametrize("name", ["small", "alpha", "alpha-large"])
def test_a_model_s_name_pins_the_request(world: World, name: str) -> None:
    """A name reaches the rung that serves it; the mode is not touched by it."""
    reply = world.chat(model=name)
    assert reply.headers["X-Lifeboat-Rung"] == name.removesuffix("-large")
    assert reply.headers["X-Lifeboat-Mode"] == "NORMAL"


def test_a_pinned_model_is_never_replaced(world: World) -> None:
    """Whoever names a model gets an error when it is away, and no other model."""
    world.cloud.stop()
    reply = world.chat(model="alpha-large")
    assert reply.status_code == 503
    assert reply.json()["error"]["code"] == "no_rung_available"
    assert "alpha: connection refused" in reply.json()["error"]["message"]
    assert int(reply.headers["Retry-After"]) > 0


def test_a_pinned_model_that_is_busy_says_so(world: World) -> None:
    """Whoever names a model that has too much to do gets 429, which clients wait for, and no 503."""
    world.cloud.behaviour = "429"
    reply = world.chat(model="alpha-large")
    assert (reply.status_code, reply.json()["error"]["code"]) == (429, "queue_full")
    assert int(reply.headers["Retry-After"]) > 0


def test_options_without_effect_are_named(world: World) -> None:
    """A cloud gets them as they came; the box does without and says so."""
    options: Any = {"user": "u", "metadata": {"a": "b"}, "brand_new_option": 1, "temperature": 0.5}
    assert "X-Lifeboat-Ignored" not in world.chat(**options).headers
    assert world.cloud.asked[0]["brand_new_option"] == 1
    reply = world.chat(model="small", **options)
    assert reply.headers["X-Lifeboat-Ignored"] == "brand_new_option, metadata, user"
    assert world.engine.asked[0].keys() == {"messages", "model", "temperature"}


def test_a_rung_declines_what_it_cannot_honour(world: World) -> None:
    """Audio goes to the cloud; without it the request fails as unavailable, because the cloud could serve it."""
    asked: Any = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}
    assert world.chat(**asked).headers["X-Lifeboat-Rung"] == "alpha"
    world.cloud.stop()
    reply = world.chat(**asked)
    assert reply.status_code == 503
    assert "small: it does not support audio" in reply.json()["error"]["message"]


def test_tools_and_schemas_fall_back_to_the_local_model(world: World) -> None:
    """The request goes to the engine as it came, with what it needs to know of the caller."""
    world.cloud.stop()
    tools = [{"type": "function", "function": {"name": "f"}}]
    reply = world.chat(tools=tools, tool_choice="required", service_tier="flex")
    assert reply.headers["X-Lifeboat-Rung"] == "small"
    assert world.engine.asked[0]["tools"] == tools
    told = world.engine.headers[0]
    assert told["X-Lifeboat-Priority"] == "1"
    assert told["X-Lifeboat-Tenant"]
    assert 0 < int(told["X-Lifeboat-Deadline-Ms"]) <= 600_000


def test_a_provider_is_told_nothing_of_the_caller(world: World) -> None:
    """Which tenant asks is no business of a cloud."""
    world.chat()
    assert [name for name in world.cloud.headers[0] if name.startswith("X-Lifeboat")] == ["X-Lifeboat-Via"]
    assert world.cloud.headers[0]["X-Lifeboat-Via"] == world.answering.id  # random, made anew at each start


def test_an_option_that_no_rung_honours_is_a_400(world: World) -> None:
    """Pinned to the local model audio can never be honoured."""
    reply = world.chat(model="small", modalities=["text", "audio"])
    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "unsupported_option"
    assert world.engine.asked == []
