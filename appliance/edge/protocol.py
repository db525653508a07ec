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
from appliance.edge.limits import HEADER_BYTES_MAX, HEADERS_S, LINGER_S, PACKET_BYTES


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
    _answers: _Answers | None = None  # of the newest request
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

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._deadline is None:  # a trailer: whoever stands in front has not looked at it (RFC 9110, 6.5.1)
            return
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._have_headers()
        super().on_headers_complete()
        if self.cycle is not None:
            self._answers = _Answers(self)
            self.cycle.transport = cast("asyncio.Transport", self._answers)
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

    def on_response_complete(self) -> None:
        if self._answers is not None:
            self._answers.flush()  # nothing comes behind it
        super().on_response_complete()

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
    """The transport as an answer sees it: what is written in one turn of the loop leaves in one packet.

    So the head of an answer goes with its body, and the pieces of a stream that came together leave together.
    """

    def __init__(self, protocol: BoundedProtocol) -> None:
        self._protocol = protocol
        self._parts: list[bytes] = []
        self._bytes = 0

    def write(self, data: bytes) -> None:
        self._parts.append(data)
        self._bytes += len(data)
        if self._bytes >= PACKET_BYTES:  # the transport's own limit is what slows a writer down
            self.flush()
        elif len(self._parts) == 1:
            self._protocol.loop.call_soon(self.flush)

    def flush(self) -> None:
        parts, self._parts, self._bytes = self._parts, [], 0
        if parts and not self._protocol.transport.is_closing():
            self._protocol.transport.write(b"".join(parts))

    def is_closing(self) -> bool:
        return self._protocol.transport.is_closing()

    def close(self) -> None:
        self.flush()
        self._protocol.close_after_body()
