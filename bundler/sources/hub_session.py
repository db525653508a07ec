"""One HTTP session of huggingface-hub's client with this program's rules.

huggingface-hub 2.4 sends the token to its own hosts besides the endpoint, follows a listing's next page to any host,
has no timeout for listings, sleeps for as long as a server asks, and reads an answer of any length. Here:

- the token goes to the endpoint's own scheme, host and port, wherever a redirect or a next page leads;
- from https nothing leads back to http;
- every wait is bounded, and a failure that may pass is raised as `Passing` at once: one place decides on tries;
- an answer that is no file is bounded as a whole in bytes and in time, a name and its addresses in time (`hub_wire`);
- no answer may be compressed, so that its length is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import httpx2
from huggingface_hub import close_session, set_client_factory
from huggingface_hub.utils._http import default_client_factory  # only to leave the library as it was

from bundler import __version__
from bundler.format.errors import SourceFailed
from bundler.format.secrets import masked
from bundler.patience import Passing, asked_s, lasting
from bundler.sources.hub_patience import MAY_PASS, HubPatience
from bundler.sources.hub_settings import HubSettings, origin
from bundler.sources.hub_wire import ANSWER_BYTES, bind, expect, pieces

IS_FILE = "lifeboat.file"  # an extension of requests whose answer is the file itself: who reads it watches its length


@contextmanager
def hub_session(settings: HubSettings, patience: HubPatience) -> Iterator[None]:
    """Lets huggingface-hub talk by our rules for the length of the block."""

    def made() -> httpx2.Client:
        hooks: dict[str, list[Callable[..., Any]]] = {"request": [guard(settings, patience)], "response": [_watch]}
        return Session(patience, event_hooks=hooks, follow_redirects=True, max_redirects=5)

    set_client_factory(made)
    try:
        yield
    finally:
        set_client_factory(default_client_factory)
        close_session()


class Session(httpx2.Client):
    """Raises what may pass as `Passing`, before the library's own tries, and says where a hub says nothing."""

    def __init__(self, patience: HubPatience, **how: Any) -> None:
        self._patience = patience
        super().__init__(**how)
        bind(self)

    def send(self, request: httpx2.Request, **how: Any) -> httpx2.Response:
        expect(request.url.host, self._patience.whole_s, is_file=IS_FILE in request.extensions)
        with transport_errors(request.url.host), self._patience.silence(request.url.host):
            response = super().send(request, **how)
        if response.status_code in MAY_PASS:
            response.close()
            wait_s = asked_s(response.headers, datetime.now(UTC))
            raise Passing(f"{request.url.host} answered {response.status_code}", wait_s)
        return response


class transport_errors:  # noqa: N801 - reads as a statement
    """Turns what went wrong with a connection into `Passing`."""

    def __init__(self, host: str) -> None:
        self._host = host

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, httpx2.TimeoutException):
            raise Passing(f"{self._host} said nothing for too long") from error
        if isinstance(error, httpx2.UnsupportedProtocol | httpx2.TooManyRedirects | httpx2.InvalidURL):
            raise SourceFailed(
                f"{self._host} leads to where a hub does not lead: {masked(str(error))[:200]!r}"
            ) from error
        if isinstance(error, httpx2.HTTPError):
            failed = lasting(self._host, error, "a mirror without TLS is named with http:// in HF_ENDPOINT")
            if failed is not None:
                raise failed from error
            raise Passing(
                f"the connection to {self._host} failed: {masked(str(error))[:200] or type(error).__name__}"
            ) from error


def guard(settings: HubSettings, patience: HubPatience) -> Callable[[httpx2.Request], None]:
    """Returns what each request goes through before it is sent, those that follow a redirect as well."""
    limits = {"connect": patience.connect_s, "pool": patience.connect_s}
    limits |= {"read": patience.silence_s, "write": patience.silence_s}

    def passed(request: httpx2.Request) -> None:
        here = origin(str(request.url))
        if settings.origin[0] == "https" and here[0] != "https":
            raise SourceFailed(f"{settings.endpoint} leads to {here[0]}://{here[1]}, which is not encrypted")
        if here != settings.origin:
            request.headers.pop("Authorization", None)
            request.headers.pop("Cookie", None)
        request.headers["Accept-Encoding"] = "identity"
        request.headers["User-Agent"] = f"lifeboat/{__version__}"
        request.extensions = {**request.extensions, "timeout": limits}

    return passed


def _watch(response: httpx2.Response) -> None:
    host = response.request.url.host
    if response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
        raise SourceFailed(f"{host} answered compressed, which nobody asked for")
    if IS_FILE not in response.request.extensions or response.is_redirect or response.is_error:
        response.stream = _Bounded(response.stream, host)
    else:
        response.stream = _Pieces(response.stream)


class _Pieces(httpx2.SyncByteStream):
    """A file, whose length is watched by who reads it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        return pieces(self._stream)

    def close(self) -> None:
        self._stream.close()


class _Bounded(httpx2.SyncByteStream):
    """An answer that ends the work where it grows too long."""

    def __init__(self, stream: Any, host: str) -> None:
        self._stream, self._host = stream, host

    def __iter__(self) -> Iterator[bytes]:
        length = 0
        for piece in self._stream:
            length += len(piece)
            if length > ANSWER_BYTES:
                raise SourceFailed(
                    f"{self._host} answers with more than {ANSWER_BYTES} bytes where no file was asked for"
                )
            yield piece

    def close(self) -> None:
        self._stream.close()
