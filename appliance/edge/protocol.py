"""uvicorn's HTTP/1.1 with an end to waiting for headers, and with one that loses no answer at the end of a connection.

Without the first, strangers hold connections for ever. Without the second, a request that is refused before its body
has come may find a reset in place of the refusal: TCP answers bytes that come to a closed socket with one, and the
client's system drops with it what the client has not read yet (RFC 9112, section 9.6).
"""

from __future__ import annotations

import asyncio
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from appliance.edge.caller import CALLER, Caller
from appliance.edge.limits import HEADER_BYTES_MAX, HEADERS_S, LINGER_S


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection whose headers take longer than HEADERS_S or are longer than HEADER_BYTES_MAX.

    The wait begins with the connection and with the first byte of each later request; between requests uvicorn's
    own keep-alive limit holds. Any byte ends that one: where it begins no request (the rest of a body whose request
    was answered already, an empty line), the connection has HEADERS_S left for the next.

    After a last answer that came before the request's body, what is left of the body is read for LINGER_S at most.

    The scope of each request has its `Caller`, who leaves with the connection.
    """

    _deadline: asyncio.TimerHandle | None = None
    _leaving: asyncio.TimerHandle | None = None
    _lingering: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _callers: tuple[tuple[RequestResponseCycle, Caller], ...] = ()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._have_headers()
        self._stay()
        if self._lingering is not None:
            self._lingering.cancel()
        super().connection_lost(exc)
        for cycle, caller in self._callers:
            if not cycle.response_complete:
                cycle.disconnected = True  # uvicorn tells the last one alone
                caller.leave()
        self._callers = ()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._stay()
        self._expect_headers()

    def on_headers_complete(self) -> None:
        self._have_headers()
        super().on_headers_complete()
        if self.cycle is not None:
            self.cycle.transport = cast("asyncio.Transport", _Answers(self))
            caller = Caller()
            self.cycle.scope[CALLER] = caller  # type: ignore[literal-required]  # an extension of our own
            # More than one where a client sends requests ahead of their answers.
            waiting = [pair for pair in self._callers if not pair[0].response_complete]
            self._callers = (*waiting, (self.cycle, caller))

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if self._callers:  # a request that is handed to an application is the last of them
            self._callers[-1][1].has_sent = True
        if self._lingering is not None:
            self.transport.close()

    def close_after_body(self) -> None:
        """Closes the connection; if its last answer came before the whole request, once that has come too."""
        if self.cycle.more_body and self._lingering is None and not self.transport.is_closing():
            self.flow.resume_reading()
            self._lingering = self.loop.call_later(LINGER_S, self.transport.close)
        elif self._lingering is None:
            self.transport.close()

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


class _Answers:
    """The transport as an answer sees it: its head goes out with what follows at once, in one packet."""

    def __init__(self, protocol: BoundedProtocol) -> None:
        self._protocol, self._cycle = protocol, protocol.cycle
        self._head = b""
        self._begun = False

    def write(self, data: bytes) -> None:
        if self._cycle.response_started and not self._begun:
            self._begun, self._head = True, data
            self._protocol.loop.call_soon(self._flush)  # where the body takes its time, the head does not wait for it
        else:
            self._protocol.transport.write(self._taken() + data)

    def is_closing(self) -> bool:
        return self._protocol.transport.is_closing()

    def close(self) -> None:
        self._flush()
        self._protocol.close_after_body()

    def _flush(self) -> None:
        if self._head and not self._protocol.transport.is_closing():
            self._protocol.transport.write(self._taken())

    def _taken(self) -> bytes:
        head, self._head = self._head, b""
        return head
