from typing import Any

import pytest

from appliance.engine.options import Refused, read_messages, read_options
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
    ],
)
def test_wrong_options_are_refused(body: dict[str, Any]) -> None:
    """Each wrong value gives a message that names the option."""
    with pytest.raises(Refused, match=next(iter(body))) as caught:
        read_options(body, 64)
    assert caught.value.code == "invalid_request"


@pytest.mark.parametrize(
    "body",
    [
        {"tools": [{}]},
        {"n": 2},
        {"logprobs": True},
        {"response_format": {"type": "json_object"}},
        {"logit_bias": {"1": 2}},
    ],
)
def test_what_cannot_be_honoured_is_refused(body: dict[str, Any]) -> None:
    """Nothing that changes the answer is ignored in silence: the ladder goes on to another rung."""
    with pytest.raises(Refused) as caught:
        read_options(body, 64)
    assert caught.value.code == "unsupported_option"


@pytest.mark.parametrize(
    "messages",
    [
        None,
        [],
        [{"role": "user"}],
        [{"role": "king", "content": "x"}],
        [{"role": "user", "content": [{"type": "image"}]}],
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
        hostile.render([])
    refusing = ChatTemplate("{{ raise_exception('no system role') }}", "", "")
    with pytest.raises(BadMessages, match="no system role"):
        refusing.render([])


def test_models_without_a_template_get_chatml() -> None:
    """The default is the ChatML form, ready for the assistant."""
    text = ChatTemplate("", "", "").render([{"role": "user", "content": "hi"}])
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
