"""The serving process's HTTP application: `create_app` puts it together, `serve` runs it on a socket."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import Any

import uvicorn
from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.types import Message, Scope

from appliance.answer.answering import Answering
from appliance.answer.cached import AnswerCache
from appliance.answer.facts import Box
from appliance.answer.jobs import Jobs
from appliance.answer.tickets import Tickets
from appliance.edge.limits import CONNECTIONS_MAX, KEEP_ALIVE_S, SHUTDOWN_S
from appliance.edge.metrics import Metrics
from appliance.edge.protocol import BoundedProtocol
from appliance.edge.quota import Quotas
from appliance.edge.server import Server
from appliance.edge.tls_shown import Shown
from appliance.edge.tokens import TokenStore
from appliance.routes import chat, feed, health, knowledge, messages, models, pages
from appliance.routes.errors import render
from appliance.routes.guards import edge_guard, use_guard
from appliance.routes.jobs import answered, forget_job, one_job
from appliance.settings import Settings
from appliance.unattended import WithoutWords

API = (
    chat.chat_completions,
    chat.completions,
    chat.resumed,
    messages.messages,
    messages.count_tokens,
    models.list_models,
    models.one_model,
    models.embeddings,
    models.rerank,
    knowledge.search,
    knowledge.faq,
    knowledge.route,
    knowledge.ask,
    one_job,
    forget_job,
)
_SECURITY = [(name.lower().encode(), value.encode()) for name, value in pages.SECURITY_HEADERS.items()]
_WITHOUT_WORDS = WithoutWords()
AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]
# Without the guard of `/v1`: `ready`, `metrics` and `events` bring their own, the rest holds no data.
OPEN_PATHS = (health.live, health.ready, health.metrics, health.status, feed.events, pages.page, pages.ca_certificate)


def create_app(
    box: Box,
    tokens: TokenStore,
    settings: Settings,
    *,
    tickets: Tickets | None = None,
    cache: AnswerCache | None = None,
    jobs: Jobs | None = None,
    quotas: Quotas | None = None,
) -> Litestar:
    """Returns the application for one installed version.

    Args:
        box: What is installed; its `service` must not change while the application lives.
        tokens: Who may call.
        settings: Read at start.
        tickets: Of the last rung; None where it makes none.
        cache: Of answers; None where none are kept.
        jobs: Requests that nobody waits for; None where none are taken.
        quotas: What tokens used; None where nobody else counts them.
    """
    answering, counted = Answering(box, settings, tickets=tickets, cache=cache), quotas or Quotas()

    @asynccontextmanager
    async def running(_: Litestar) -> AsyncIterator[None]:
        async with answering, jobs or nullcontext():
            if jobs is not None:
                jobs.work(partial(answered, answering, tokens, counted), answering.leaving.is_set)
            yield

    known = {"answering": answering, "metrics": Metrics(), "tokens": tokens, "settings": settings}
    return Litestar(
        route_handlers=[Router("/v1", guards=[use_guard], route_handlers=API), *OPEN_PATHS],
        guards=[edge_guard],
        lifespan=[running],
        state=State(known | {"jobs": jobs, "quotas": counted, "pages": pages.load_pages(), "feeds": set()}),
        before_send=[_secured],
        exception_handlers={Exception: render},
        request_max_body_size=box.service.limits.body_bytes,
        openapi_config=None,
        logging_config=None,
        debug=False,
    )


async def serve(
    app: AsgiApp,
    listener: socket.socket,
    *,
    tls: Shown | None = None,
    on_ready: Callable[[Server], None] = lambda _: None,
    finish: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serves until the process is told to stop; accepted requests are finished first.

    Args:
        app: From `create_app`, or what stands in front of it.
        listener: A listening TCP socket; the supervisor may own it.
        tls: What clients are shown; required unless the socket is on loopback.
        on_ready: Called with the server before it starts; it can be told to leave or to stop.
        finish: Awaited after the first signal, while connections are still taken; a second signal does not wait for it.

    Raises:
        ValueError: The socket is not on loopback and there is no TLS.
    """
    if tls is None and not _on_loopback(listener):
        raise ValueError("a bind that is not loopback needs TLS")
    config = uvicorn.Config(
        app,
        lifespan="on",
        http=BoundedProtocol,
        ws="none",
        log_config=None,
        access_log=False,  # a path or header in a log is data of the customer
        server_header=False,
        date_header=True,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS_MAX,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=SHUTDOWN_S,
        ssl_context_factory=None if tls is None else lambda _config, _default: tls.listening,
    )
    server = Server(config, finish)
    logging.getLogger("uvicorn.error").addFilter(_WITHOUT_WORDS)
    on_ready(server)
    await server.serve(sockets=[listener])


def _on_loopback(listener: socket.socket) -> bool:
    if listener.family == socket.AF_UNIX:
        return True
    host = str(listener.getsockname()[0])
    return host == "::1" or host.startswith("127.")


async def _secured(message: Message, scope: Scope) -> None:
    if message["type"] == "http.response.start":
        names = {name.lower() for name, _ in message["headers"]}
        message["headers"] = [*message["headers"], *(pair for pair in _SECURITY if pair[0] not in names)]
        if "limits" in scope["state"]:
            message["headers"] += scope["state"]["limits"]
