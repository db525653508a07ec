"""HTTP to one registry: its tokens, its redirects, what may pass and what does not.

A credential goes to the registry's own origin and to the token service that it names, never after a redirect. Plain
HTTP is for this machine alone. Proxies are those of the environment.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit
from urllib.request import getproxies, parse_http_list, parse_keqv_list, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError
from urllib3.util import Timeout, make_headers

from bundler.format.errors import SourceFailed
from bundler.format.secrets import masked
from bundler.patience import Passing, asked_s, lasting
from bundler.registries.incoming import Bound, bind, held
from bundler.registries.logins import Login
from bundler.registries.reference import is_loopback

LOGIN_HINT = "log in with `skopeo login HOST` or `docker login HOST`; credential helpers are not run"
# While a body is sent the first holds for every block, so a block is small enough for a slow line. After a large body
# a registry may have work to do before it answers.
CONNECT_S, READ_S, STORED_S = 30.0, 60.0, 300.0
_SENT_BYTES = 128 << 10
_REDIRECTS = 5
_TOKEN_BYTES = 64 << 10
_ERROR_BYTES = 8 << 10
_BLOCK_BYTES = 1 << 20
# A block of a large answer on a line of 1 kB/s; a small answer as a whole, and the word of an error beside its status.
BLOCK_S, WHOLE_S, WORD_S = 900.0, 120.0, 20.0
_FRAMING_BYTES = 64 << 10


@dataclass
class Answer:
    """An answer whose body is still to be read.

    Attributes:
        url: Where it came from, after redirects.
        status: Of HTTP.
        headers: Without regard to case.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    _raw: urllib3.BaseHTTPResponse
    _bound: Bound

    def blocks(self, heard: Callable[[], None] = lambda: None) -> Iterator[bytes]:
        """Yields the body, of any length.

        Args:
            heard: Called whenever bytes have come, of which a block takes many.

        Raises:
            Passing: The connection broke, said nothing for too long, or sent more marks of chunks than bytes.
        """
        self._bound.heard = heard
        while True:
            self._allow(_BLOCK_BYTES, BLOCK_S)
            block = self._read(_BLOCK_BYTES)
            if not block:
                return
            yield block

    def body(self, limit: int, within_s: float = WHOLE_S) -> bytes:
        """Returns the whole body.

        Args:
            limit: How many bytes it may have.
            within_s: How long all of it may take.

        Raises:
            SourceFailed: It is longer than `limit` bytes.
            Passing: The connection broke, or the body was not here in time.
        """
        self._allow(limit, within_s)
        found = bytearray()
        while block := self._read(limit + 1 - len(found)):
            found += block
            if len(found) > limit:
                raise SourceFailed(f"the registry answers with more than {limit} bytes where less is due")
        return bytes(found)

    def code(self) -> str:
        """Returns the registry's own word for its error, or ""."""
        try:
            found = re.search(rb'"code"\s*:\s*"([A-Z_]{1,40})"', self.body(_ERROR_BYTES, WORD_S))
        except (SourceFailed, Passing):
            return ""
        return found[1].decode() if found else ""

    def asked_s(self) -> float | None:
        """Returns how long the registry asks to wait, or None."""
        return asked_s(self.headers, datetime.now(UTC))

    def _allow(self, length_bytes: int, within_s: float) -> None:
        # Registries send chunks of some KiB, with few bytes between them.
        self._bound.allow(2 * length_bytes + _FRAMING_BYTES, within_s)

    def _read(self, most: int) -> bytes:
        try:
            return self._raw.read(most)
        except (HTTPError, OSError) as error:
            raise Passing(_told(error)) from error


class Wire:
    """Sends requests to one registry and to whom it points.

    Args:
        origin: Scheme, host and port of the registry.
        login: For it, or None.
        scopes: What tokens are asked for, as "repository:NAME:pull,push".
    """

    def __init__(self, origin: str, login: Login | None, scopes: tuple[str, ...]) -> None:
        self._origin, self._login, self._scopes = origin, login, scopes
        self._local = is_loopback(urlsplit(origin).netloc)
        self._direct = urllib3.PoolManager(maxsize=8, blocksize=_SENT_BYTES)
        bind(self._direct)
        self._proxied: dict[str, urllib3.PoolManager] = {}
        self._authorization, self._lock = "", threading.RLock()

    @contextmanager
    def send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: IO[bytes] | bytes | None = None,
        *,
        follow: bool = False,
    ) -> Iterator[Answer]:
        """Sends a request, with a token where the registry asks for one.

        Args:
            method: Of HTTP.
            path: A path of the registry, or a whole URL that it gave.
            headers: More headers.
            body: What is sent; its length stands in the headers.
            follow: Whether redirects are followed.

        Raises:
            Passing: The connection broke, or the registry answers 408, 429 or 5xx.
            SourceFailed: It points to where we do not go, or its certificate is not trusted.
        """
        url, used = self.resolve(self._origin, path), self._authorization
        answer = self._ask(method, url, headers or {}, body, follow=follow)
        if answer.status == 401 and self._is_own(answer.url) and self._renewed(answer, used):
            answer._raw.close()
            if body is not None:
                raise Passing("the token ended")  # the body is spent: the whole step is done again
            answer = self._ask(method, url, headers or {}, None, follow=follow)
        try:
            if answer.status in (408, 429) or answer.status >= 500:
                raise Passing(f"it answers {answer.status} {answer.code()}".rstrip(), answer.asked_s())
            yield answer
        finally:
            answer._raw.close()

    def close(self) -> None:
        """Ends the connections."""
        for pool in (self._direct, *self._proxied.values()):
            pool.clear()

    def resolve(self, base: str, location: str) -> str:
        """Returns the URL that a Location means.

        Raises:
            SourceFailed: It is no URL, is not HTTPS, or is plain HTTP to another machine.
        """
        try:
            url = urljoin(base, location)
            parts = urlsplit(url)
            _ = parts.port  # looked at here: a number that is no port is found only when it is asked for
        except ValueError as error:
            raise SourceFailed(f"the registry points to {masked(ascii(location))[:120]}, which is no URL") from error
        if parts.scheme == "https" or (parts.scheme == "http" and self._local and is_loopback(parts.netloc)):
            return url
        raise SourceFailed(
            f"the registry points to {masked(ascii(f'{parts.scheme}://{parts.netloc}'))[:120]}, which is not HTTPS",
            "a registry behind a TLS proxy must know its own address (X-Forwarded-Proto, or relative URLs)",
        )

    def _ask(
        self, method: str, url: str, headers: Mapping[str, str], body: IO[bytes] | bytes | None, *, follow: bool
    ) -> Answer:
        for _ in range(_REDIRECTS + 1):
            shown = {"Authorization": self._authorization} if self._authorization and self._is_own(url) else {}
            answer = self._once(method, url, {**headers, **shown}, body)
            if not follow or answer.status not in (301, 302, 303, 307, 308):
                return answer
            answer._raw.close()
            url = self.resolve(url, answer.headers.get("Location", ""))
        raise SourceFailed(f"the registry redirects more than {_REDIRECTS} times")

    def _once(self, method: str, url: str, headers: Mapping[str, str], body: IO[bytes] | bytes | None) -> Answer:
        sent = {"Accept-Encoding": "identity", "User-Agent": "lifeboat", **headers}
        bound = Bound(READ_S if body is None else STORED_S)
        try:
            with held(bound):
                raw = self._pool(url).urlopen(
                    method,
                    url,
                    body=body,
                    headers=sent,
                    redirect=False,
                    retries=False,
                    preload_content=False,
                    decode_content=False,
                    timeout=Timeout(connect=CONNECT_S, read=bound.silence_s),
                )
        except (HTTPError, OSError) as error:
            _, host, port = _origin(url)
            fault = Passing(f"{ascii(host)[1:-1]}:{port}: {_told(error)}")
            plain = "plain HTTP is for registries on this machine alone"
            raise lasting(urlsplit(url).netloc, error, plain) or fault from error
        return Answer(url, raw.status, raw.headers, raw, bound)

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        proxy = getproxies().get(parts.scheme)
        if not proxy or is_loopback(parts.netloc) or proxy_bypass(parts.hostname or ""):
            return self._direct
        with self._lock:
            if proxy not in self._proxied:
                who = urlsplit(proxy)
                login = make_headers(proxy_basic_auth=f"{who.username}:{who.password or ''}") if who.username else None
                bare = urlunsplit(who._replace(netloc=who.netloc.rpartition("@")[2]))
                self._proxied[proxy] = urllib3.ProxyManager(bare, proxy_headers=login, blocksize=_SENT_BYTES)
                bind(self._proxied[proxy])
            return self._proxied[proxy]

    def _is_own(self, url: str) -> bool:
        return _origin(url) == _origin(self._origin)

    def _renewed(self, answer: Answer, used: str) -> bool:
        """Gets what a 401 asks for; False where we have nothing more to show."""
        challenge = answer.headers.get("WWW-Authenticate", "")
        with self._lock:
            if self._authorization != used:
                return True  # another thread was quicker
            kind, _, rest = challenge.partition(" ")
            fresh = ""
            if kind.lower() == "basic" and self._login and not used:
                fresh = _basic(self._login)
            elif kind.lower() == "bearer":
                fresh = f"Bearer {self._token(_pairs(rest))}"
            self._authorization = fresh or used
            return bool(fresh)

    def _token(self, challenge: Mapping[str, str]) -> str:
        """Asks the token service (https://distribution.github.io/distribution/spec/auth/token/)."""
        realm = self.resolve(self._origin, challenge.get("realm", ""))
        fields = [("service", challenge["service"])] if "service" in challenge else []
        if self._login and self._login.identity_token:
            fields += [("grant_type", "refresh_token"), ("client_id", "lifeboat"), ("scope", " ".join(self._scopes))]
            form = urlencode([*fields, ("refresh_token", self._login.identity_token)]).encode()
            kind = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(form))}
            answer = self._once("POST", realm, kind, form)
        else:
            parts = urlsplit(realm)
            query = urlencode([*parse_qsl(parts.query), *fields, *(("scope", scope) for scope in self._scopes)])
            named = {"Authorization": _basic(self._login)} if self._login else {}
            answer = self._once("GET", urlunsplit(parts._replace(query=query)), named, None)
        try:
            return _read_token(answer, urlsplit(realm).netloc)
        finally:
            answer._raw.close()


def _read_token(answer: Answer, host: str) -> str:
    if answer.status in (408, 429) or answer.status >= 500:
        raise Passing(f"{host} answers {answer.status}", answer.asked_s())
    if answer.status != 200:
        raise SourceFailed(f"{host} gives no token: it answers {answer.status}", LOGIN_HINT)
    try:
        found = json.loads(answer.body(_TOKEN_BYTES))
    except (ValueError, RecursionError):
        found = None
    token = (found.get("token") or found.get("access_token")) if isinstance(found, dict) else None
    if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]{1,32768}", token):
        raise SourceFailed(f"{host} gives no token that can be used")
    return token


def _pairs(challenge: str) -> dict[str, str]:
    """Reads `name="value", ...` of RFC 9110, 11.2; what is no pair is dropped."""
    # An empty value without quotes is none by the RFC, and parse_keqv_list fails on it.
    return parse_keqv_list([pair for pair in parse_http_list(challenge) if pair.partition("=")[2]])


def _origin(url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _basic(login: Login) -> str:
    return "Basic " + base64.b64encode(f"{login.user}:{login.password}".encode()).decode()


def _told(error: Exception) -> str:
    """A fault of the network in a line that holds no control characters, and of our own URLs nothing."""
    cause = error.__cause__ or error.__context__ or error
    return f"{type(error).__name__}: {masked(ascii(str(cause)))[1:-1][:160]}"
