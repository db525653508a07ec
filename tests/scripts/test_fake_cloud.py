"""The stand-in for a provider, as a program: the wire, the label, the key, and its own end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "fake_cloud.py"


@contextmanager
def _fake_cloud(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, str(SCRIPT), "--port", "0", "--delay-ms", "1", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            yield process, line.split("fake cloud: ")[1].split(",")[0]
        finally:
            process.kill()


def test_it_speaks_the_wire_and_labels_its_answers() -> None:
    """Whole and streamed, through the unmodified client."""
    with _fake_cloud() as (_, url), openai.OpenAI(base_url=url, api_key="x", max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["cloud-large"]
        whole = client.chat.completions.create(model="cloud-large", messages=[{"role": "user", "content": "why"}])
        stream = client.chat.completions.create(
            model="cloud-large", messages=[{"role": "user", "content": "why"}], stream=True
        )
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        text = client.completions.create(model="cloud-large", prompt="why").choices[0].text
    assert whole.choices[0].message.content == streamed.strip() == text
    assert text.startswith("[fake cloud] You asked: why")


def test_it_refuses_as_a_provider_does() -> None:
    """A wrong key, an unknown model, a foreign body."""
    with _fake_cloud("--key", "k") as (_, url):
        with (
            openai.OpenAI(base_url=url, api_key="x", max_retries=0) as client,
            pytest.raises(openai.AuthenticationError),
        ):
            client.completions.create(model="cloud-large", prompt="x")
        with openai.OpenAI(base_url=url, api_key="k", max_retries=0) as client:
            with pytest.raises(openai.NotFoundError):
                client.completions.create(model="other", prompt="x")
            with pytest.raises(openai.BadRequestError):
                client.post("/completions", body={}, cast_to=object)


def test_killed_in_mid_stream_it_leaves_a_cut_stream() -> None:
    """The client sees a broken connection, no end."""
    with _fake_cloud("--delay-ms", "200") as (process, url), openai.OpenAI(base_url=url, api_key="x") as client:
        stream = client.completions.create(model="cloud-large", prompt="x", stream=True)
        assert next(iter(stream)).choices[0].text == "[fake "
        process.kill()
        with pytest.raises(openai.APIConnectionError):
            list(stream)


def test_it_stops_by_itself() -> None:
    """A forgotten one does not run for ever."""
    with _fake_cloud("--for-s", "0.2") as (process, _):
        assert process.wait(60) == 0
