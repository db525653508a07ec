"""What the box is asked by its own commands."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from appliance.host.own_page import own_page


@pytest.fixture
def origin() -> Iterator[str]:
    """A server that answers with what it was asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told = f"{self.path} {self.headers.get('Authorization')}".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, *_: Any) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_page_is_read_to_its_bound(origin: str) -> None:
    """With a token where one is given, and never more than was asked for."""
    assert own_page(origin, "/status.json", 100) == (200, b"/status.json None")
    assert own_page(origin, "/metrics", 100, "lb_1") == (200, b"/metrics Bearer lb_1")
    assert own_page(origin, "/status.json", 7) == (200, b"/status")


def test_a_box_that_is_not_there_is_an_error_of_the_system() -> None:
    """So is a file whose words are no address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(ConnectionError):
        own_page(f"http://127.0.0.1:{port}", "/", 1)
    with pytest.raises(ValueError, match="Port"):
        own_page("http://127.0.0.1:x", "/", 1)
