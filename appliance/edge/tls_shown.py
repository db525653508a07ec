"""The certificate that new connections are shown, which may change while others go on.

A context is made for each one, and the handshake is handed to the newest: a context that is loaded twice keeps a
certificate for each kind of key, and a client would be shown the old one.
"""

from __future__ import annotations

import ssl

from appliance.edge.tls import Certificate, loaded


class Shown:
    """What a listening socket shows.

    Args:
        certificate: The first one.
    """

    def __init__(self, certificate: Certificate) -> None:
        self._newest = _context(certificate)
        self.listening = _context(certificate)
        self.listening.sni_callback = self._choose  # also asked where a client names no server

    def show(self, certificate: Certificate) -> None:
        """Shows another one from the next handshake on."""
        self._newest = _context(certificate)

    def _choose(self, line: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _first: ssl.SSLContext) -> None:
        line.context = self._newest


def _context(certificate: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with loaded(certificate) as path:
        context.load_cert_chain(path)
    return context
