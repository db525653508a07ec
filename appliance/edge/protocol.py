"""uvicorn's HTTP/1.1 with an end to waiting for headers: without one, strangers hold connections for ever."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from appliance.edge.limits import HEADER_BYTES_MAX, HEADERS_S


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection whose headers take longer than HEADERS_S or are longer than HEADER_BYTES_MAX.

    The wait begins with the connection and with the first byte of each later request; between requests uvicorn's
    own keep-alive limit holds. Any byte ends that one: where it begins no request (the rest of a body whose request
    was answered already, an empty line), the connection has HEADERS_S left for the next.
    """

    _deadline: asyncio.TimerHandle | None = None
    _leaving: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._have_headers()
        self._stay()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._stay()
        self._expect_headers()

    def on_headers_complete(self) -> None:
        self._have_headers()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        super().data_received(data)
        if self._deadline is not None and self._head_bytes > HEADER_BYTES_MAX and not self.transport.is_closing():
            self.send_400_response("The headers are too long.")
        answered = self.cycle is not None and self.cycle.response_complete
        if answered and self._deadline is self._leaving is self.timeout_keep_alive_task is None:
            self._leaving = self.loop.call_later(HEADERS_S, self.transport.close)

    def _stay(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    def _expect_headers(self) -> None:
        if self._deadline is None:
            self._head_bytes = 0
            self._deadline = self.loop.call_later(HEADERS_S, self._too_late)

    def _have_headers(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        self.transport.close()
