"""A field that the first version had not: absent where it says nothing new, so that older readers take the rest."""

from __future__ import annotations

import pytest

from bundler.format.errors import BadBundle
from bundler.format.index import Index, decode_index, encode_index
from bundler.format.record import from_json, to_json
from bundler.format.service import LadderSpec, LimitsSpec, ModelSpec, Service

OLD = {"name": "m", "asset": "a", "digest": "d", "context_tokens": 512, "max_output_tokens": 48}


def test_a_chat_model_is_written_as_ever() -> None:
    """Byte for byte what an older reader knows, and read from it."""
    assert to_json(ModelSpec("m", "a", "d", 512, 48)) == OLD
    assert from_json(ModelSpec, OLD, "model").serves == "chat"


def test_another_use_is_written_and_read() -> None:
    """An older reader refuses it as a field that it does not know."""
    spec = ModelSpec("m", "a", "d", 512, 0, "rerank")
    assert to_json(spec)["serves"] == "rerank"
    assert from_json(ModelSpec, to_json(spec), "model") == spec


def test_the_default_in_words_is_refused() -> None:
    """One value has one encoding (SPEC 2.2)."""
    with pytest.raises(BadBundle, match="serves is written though it holds its default"):
        from_json(ModelSpec, OLD | {"serves": "chat"}, "model")


def test_a_use_that_is_not_known_is_refused() -> None:
    """A box does not guess what a model is there for."""
    model, ladder = ModelSpec("m", "a", "d", 512, 0, "speech"), LadderSpec((), (), (), "", "", "")
    service = Service("p", "P", (model,), None, (), (), (), (), ladder, LimitsSpec(1, 1, 1), None, ())
    with pytest.raises(BadBundle, match="the model m serves 'speech'"):
        decode_index(encode_index(Index(1, "repo", "1-0001-0123abcd", "p", (), service)), volumes=0)
