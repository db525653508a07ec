"""Who may call: Host and Origin first, on every path; a token for everything that answers or tells.

All of them are coroutines that never wait: Litestar runs a plain function in a thread, which costs more than the work.
What they find stands in the scope's `state`: `head` (the headers by name), `tenant`, `grant` and `via`.
"""

from __future__ import annotations

import time
from math import ceil
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler

from appliance.edge.allowance import REQUESTS
from appliance.edge.grant import Grant, comes_from, verb_of
from appliance.edge.hosts import host_allowed, origin_allowed
from appliance.edge.limits import HEADER_BYTES_MAX, header_bytes
from appliance.edge.quota import Quotas
from appliance.edge.tokens import TokenStore
from appliance.gateway.other_box import VIA, looped
from appliance.routes.errors import ApiError, not_ready
from appliance.settings import Settings
from bundler.format.errors import BadBundle

Connection = ASGIConnection[Any, Any, Any, Any]
_VIA, _AUTHORIZATION, _API_KEY = VIA.lower().encode(), b"authorization", b"x-api-key"


class Handler(HTTPRouteHandler):
    """A handler whose guards get the handler itself: Litestar makes a copy for each, which costs more than they do."""

    async def authorize_connection(self, connection: Connection) -> None:
        for guard in self.resolve_guards():
            await guard(connection, self)  # type: ignore[misc]  # none of ours is a plain function


async def edge_guard(connection: Connection, _: BaseRouteHandler) -> None:
    """Refuses foreign Hosts and Origins, and headers beyond the limit."""
    scope = connection.scope
    settings: Settings = scope["litestar_app"].state.settings
    headers = scope["headers"]
    if header_bytes(headers) > HEADER_BYTES_MAX:
        raise ApiError(431, "headers_too_large", f"the headers are longer than {HEADER_BYTES_MAX} bytes")
    head = scope["state"]["head"] = dict(headers)
    named = [value for name, value in headers if name == b"host"]
    if len(named) != 1:  # RFC 9112, 3.2: what stands in front of the box may go by the other one
        raise ApiError(400, "invalid_host", f"a request has one Host header, this one has {len(named)}")
    host = named[0].decode("latin-1")
    if not host_allowed(host, settings.hosts):
        raise ApiError(403, "unknown_host", "this box does not answer under that host name")
    if b"origin" in head and not origin_allowed(head[b"origin"].decode("latin-1"), host, scope["scheme"]):
        raise ApiError(403, "foreign_origin", "pages of other sites may not call this box")


async def use_guard(connection: Connection, _: BaseRouteHandler) -> None:
    """Wants a token that may ask, and a request that has not been here before."""
    _want(connection, "use")
    via = _head(connection, _VIA)
    if via and looped(via, connection.app.state.answering.id):
        raise ApiError(508, "loop_detected", "this request has passed this box, or too many others, before")
    connection.scope["state"]["via"] = via


async def monitor_guard(connection: Connection, _: BaseRouteHandler) -> None:
    """Wants a token that may watch."""
    _want(connection, "monitor")


def may_watch(connection: Connection) -> bool:
    """Says whether a token that was let in may still watch: it may have ended or been revoked since."""
    tokens: TokenStore = connection.app.state.tokens
    try:
        return tokens.check(_given(connection), "monitor", now_s=time.time())
    except BadBundle:
        return False


def _want(connection: Connection, scope: str) -> None:
    tokens: TokenStore = connection.app.state.tokens
    try:
        holder = tokens.holder(_given(connection), scope, now_s=time.time())
    except BadBundle as error:
        raise not_ready("the token file of this box is damaged; nobody is let in") from error
    if holder is None:
        message = (
            f"a valid token with the scope {scope!r} is needed: Authorization: Bearer lb_... (or x-api-key: lb_...)"
        )
        raise ApiError(401, "invalid_api_key", message, headers={"WWW-Authenticate": "Bearer"})
    connection.scope["state"] |= {"tenant": holder.id, "grant": holder.grant}
    _hold_to(connection, holder.id, holder.grant)


def _hold_to(connection: Connection, token: str, grant: Grant) -> None:
    """Holds a request to the limits of its token; the names of models stand in its body (`bodies.read`)."""
    client = connection.scope["client"]
    if not comes_from(client[0] if client is not None else "", grant.networks):
        raise ApiError(403, "network_not_allowed", "this token is not for the network that the request comes from")
    if grant.verbs and (verb := verb_of(connection.scope["path"])) and verb not in grant.verbs:
        raise ApiError(403, "verb_not_allowed", f"this token is not for /v1/{verb}")
    if grant.requests_a_minute or grant.tokens_a_day:
        _count(connection, token, grant)


def _count(connection: Connection, token: str, grant: Grant) -> None:
    """Counts a request; what is left goes with its answer, whatever that is."""
    quotas: Quotas = connection.app.state.quotas
    left = quotas.ask(token, grant, verb_of(connection.scope["path"]))
    connection.scope["state"]["limits"] = [pair for each in left for pair in each.headers]
    for each in left:
        if each.wait_s:
            often = f"ask {each.limit} times a minute" if each.what == REQUESTS else f"use {each.limit} tokens a day"
            headers = {"Retry-After": str(ceil(each.wait_s))}
            raise ApiError(429, "rate_limit_exceeded", f"this token may {often}", headers=headers)


def _given(connection: Connection) -> str:
    """Returns the token of a request; Anthropic's clients send it in a header of their own."""
    kind, _, text = _head(connection, _AUTHORIZATION).partition(" ")
    return (text if kind.lower() == "bearer" else _head(connection, _API_KEY)).strip()


def _head(connection: Connection, name: bytes) -> str:
    found: bytes = connection.scope["state"]["head"].get(name, b"")
    return found.decode("latin-1")
