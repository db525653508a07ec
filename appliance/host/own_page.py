"""Asks the box that serves on this machine for one of its pages."""

from __future__ import annotations

import http.client
import ssl
from urllib.parse import urlsplit

_WAIT_S = 5.0


def own_page(address: str, path: str, most_bytes: int, token: str = "") -> tuple[int, bytes]:
    """Returns status and body of a page, at most `most_bytes` of it.

    Args:
        address: What the supervisor wrote down, `http://HOST:PORT` or https.
        path: Of the page.
        most_bytes: What is read.
        token: A bearer token, or "".

    Raises:
        OSError, http.client.HTTPException, ValueError: It does not answer, or the address is none.
    """
    url = urlsplit(address)
    host, port = str(url.hostname), int(url.port or 0)
    connection = http.client.HTTPConnection(host, port, timeout=_WAIT_S)
    if url.scheme == "https":
        # The port is held by the supervisor of this state, on this machine: there is nobody to mistake for it.
        context = ssl._create_unverified_context()  # noqa: S323 - as above
        connection = http.client.HTTPSConnection(host, port, timeout=_WAIT_S, context=context)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        answer = connection.getresponse()
        return answer.status, answer.read(most_bytes)
    finally:
        connection.close()
