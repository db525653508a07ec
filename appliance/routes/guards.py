"""Who may call: Host and Origin first, on every path; a token for everything that answers or tells.

All of them are coroutines that never wait: Litestar runs a plain function in a thread, which costs more than the work.
"""

from __future__ import annotations

import time
from math import ceil
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

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


async def edge_guard(connection: Connection, _: BaseRouteHandler) -> None:
    """Refuses foreign Hosts and Origins, and headers beyond the limit."""
    settings: Settings = connection.app.state.settings
    if header_bytes(connection.scope["headers"]) > HEADER_BYTES_MAX:
        raise ApiError(431, "headers_too_large", f"the headers are longer than {HEADER_BYTES_MAX} bytes")
    named = [value for name, value in connection.scope["headers"] if name == b"host"]
    if len(named) != 1:  # RFC 9112, 3.2: what stands in front of the box may go by the other one
        raise ApiError(400, "invalid_host", f"a request has one Host header, this one has {len(named)}")
    host = named[0].decode("latin-1")
    if not host_allowed(host, settings.hosts):
        raise ApiError(403, "unknown_host", "this box does not answer under that host name")
    if not origin_allowed(connection.headers.get("origin"), host, connection.scope["scheme"]):
        raise ApiError(403, "foreign_origin", "pages of other sites may not call this box")


async def use_guard(connection: Connection, _: BaseRouteHandler) -> None:
    """Wants a token that may ask, and a request that has not been here before."""
    _want(connection, "use")
    via = connection.headers.get(VIA, "")
    if looped(via, connection.app.state.answering.id):
        raise ApiError(508, "loop_detected", "this request has passed this box, or too many others, before")
    connection.state.via = via


async def monitor_guard(connection: Connection, _: BaseRouteHandler) -> None:
    """Wants a token that may watch."""
    _want(connection, "monitor")


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
    connection.state.tenant = holder.id
    connection.state.grant = holder.grant
    _hold_to(connection, holder.id, holder.grant)


def _hold_to(connection: Connection, token: str, grant: Grant) -> None:
    """Holds a request to the limits of its token; the names of models stand in its body (`bodies.read`)."""
    client = connection.client
    if not comes_from(client.host if client is not None else "", grant.networks):
        raise ApiError(403, "network_not_allowed", "this token is not for the network that the request comes from")
    verb = verb_of(connection.scope["path"])
    if grant.verbs and verb and verb not in grant.verbs:
        raise ApiError(403, "verb_not_allowed", f"this token is not for /v1/{verb}")
    quotas: Quotas = connection.app.state.quotas
    if wait_s := quotas.wait_s(token, grant.requests_a_minute):
        message = f"this token may ask {grant.requests_a_minute} times a minute"
        raise ApiError(429, "rate_limit_exceeded", message, headers={"Retry-After": str(ceil(wait_s))})


def _given(connection: Connection) -> str:
    """Returns the token of a request; Anthropic's clients send it in a header of their own."""
    kind, _, text = connection.headers.get("authorization", "").partition(" ")
    return (text if kind.lower() == "bearer" else connection.headers.get("x-api-key", "")).strip()
