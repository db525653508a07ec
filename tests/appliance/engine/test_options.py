from typing import Any

import pytest

from appliance.engine.messages import read_messages
from appliance.engine.options import Refused, Sampling, read_options
from appliance.engine.template import BadMessages, ChatTemplate


def test_defaults_and_limits() -> None:
    """An answer is never longer than the model's own limit."""
    options = read_options({"max_tokens": 9999}, 64)
    assert options.max_tokens == 64
    assert (options.stream, options.stops, options.seed) == (False, (), None)


@pytest.mark.parametrize(
    "body",
    [
        {"temperature": 3},
        {"temperature": "hot"},
        {"top_p": -1},
        {"max_tokens": 0.5},
        {"max_tokens": True},
        {"stop": 4},
        {"stop": ["a"] * 17},
        {"seed": "x"},
        {"max_tokens": 0},
        {"max_completion_tokens": 0},
        {"n": 0},
        {"n": 129},
        {"n": 1.5},
        {"stream": "yes"},
        {"stream_options": []},
        {"logit_bias": {"a": 1}},
        {"logit_bias": {"1": 101}},
        {"logit_bias": [1]},
        {"top_logprobs": 2},
        {"logprobs": 21},
        {"temperature": float("nan")},
        {"mirostat": 3},
        {"ignore_eos": 1},
    ],
)
def test_wrong_options_are_refused(body: dict[str, Any]) -> None:
    """Each wrong value gives a message that names the option."""
    named = next(iter(body))
    with pytest.raises(Refused, match="1" if body == {"logit_bias": {"1": 101}} else named) as caught:
        read_options(body, 64)
    assert caught.value.code == "invalid_request"


@pytest.mark.parametrize(
    "body",
    [
        {"functions": [{}]},
        {"suffix": "x"},
        {"n": 17},
        {"modalities": ["text", "audio"]},
        {"best_of": 2},
        {"echo": True, "logprobs": 1},
    ],
)
def test_what_cannot_be_honoured_is_refused(body: dict[str, Any]) -> None:
    """Nothing that changes the answer is ignored in silence: the ladder goes on to another rung."""
    with pytest.raises(Refused) as caught:
        read_options(body, 64)
    assert caught.value.code == "unsupported_option"


def test_greedy_has_no_penalty_unless_asked() -> None:
    """Temperature 0 means the likeliest token of the model."""
    assert read_options({"temperature": 0}, 64).sampling.repeat_penalty == 1.0
    assert read_options({"temperature": 0, "repeat_penalty": 1.2}, 64).sampling.repeat_penalty == 1.2
    assert read_options({}, 64).sampling == Sampling()


def test_log_probabilities_of_both_wires() -> None:
    """A chat says `logprobs` and `top_logprobs`, a text completion a number; 0 asks for the chosen token alone."""
    assert read_options({"logprobs": True, "top_logprobs": 3}, 64).logprobs == 3
    assert read_options({"logprobs": True}, 64).logprobs == 0
    assert read_options({"logprobs": 0}, 64).logprobs == 0
    assert read_options({"logprobs": False}, 64).logprobs is None


@pytest.mark.parametrize(
    "messages",
    [
        None,
        [],
        [{"role": "user"}],
        [{"role": "king", "content": "x"}],
        [{"role": "user", "content": [{"type": "image"}]}],
        [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}],
        [{"role": "assistant", "tool_calls": {}, "content": None}],
        [{"role": "assistant", "tool_calls": [{"function": {"name": 1, "arguments": "{}"}}]}],
    ],
)
def test_wrong_messages_are_refused(messages: Any) -> None:
    """A message needs a known role and text."""
    with pytest.raises(Refused):
        read_messages({"messages": messages})


def test_parts_of_text_are_joined() -> None:
    """The list form of content is text too; `developer` is the system's voice."""
    body = {
        "messages": [{"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]
    }
    assert read_messages(body) == [{"role": "system", "content": "ab"}]


def test_a_template_runs_in_a_sandbox() -> None:
    """A template from a model file reaches nothing of the program."""
    hostile = ChatTemplate("{{ ''.__class__.__mro__[1].__subclasses__() }}", "", "")
    with pytest.raises(BadMessages):
        hostile.render([{"role": "user", "content": "x"}])
    refusing = ChatTemplate("{{ raise_exception('no system role') }}", "", "")
    with pytest.raises(BadMessages, match="no system role"):
        refusing.render([{"role": "user", "content": "x"}])


def test_models_without_a_template_get_chatml() -> None:
    """The default is the ChatML form, ready for the assistant."""
    text = ChatTemplate("", "", "").render([{"role": "user", "content": "hi"}])
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


def test_a_template_shows_json_as_it_is() -> None:
    """Jinja's own filter would escape for HTML, which no model was trained on."""
    template = ChatTemplate("{{ messages[0] | tojson }}", "", "")
    assert (
        template.render([{"role": "user", "content": "a's <b> & ä"}]) == '{"role": "user", "content": "a\'s <b> & ä"}'
    )


def test_a_template_that_does_not_end_is_stopped() -> None:
    """A loop of loops meets the deadline; the thread goes on with the next one."""
    loop = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}"
    endless = ChatTemplate(loop + "{% endfor %}{% endfor %}", "", "", deadline_s=0.2)
    with pytest.raises(BadMessages, match="took longer"):
        endless.render([{"role": "user", "content": "x"}])
    assert ChatTemplate("", "", "").render([{"role": "user", "content": "x"}])


def test_a_begun_answer_stays_open() -> None:
    """With `continues` nothing follows the last message; a template that hides it is told."""
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Dear "}]
    text = ChatTemplate("", "", "").render(messages, continues=True)
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nDear"
    with pytest.raises(BadMessages, match="cannot be continued"):
        ChatTemplate("{{ messages[0].content }}", "", "").render(messages, continues=True)
