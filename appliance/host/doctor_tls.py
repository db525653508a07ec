"""What `doctor` says of the certificate that clients are shown: what the files hold, and what the box really shows."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from appliance.edge.tls_files import TlsFiles, days_left, leaf_of, read
from appliance.host.finding import BAD, GOOD, WARN, Finding
from bundler.format.errors import BadInput

# What renews by itself does so a month before (certbot) or at two thirds of a short life: later, something is broken.
SOON_DAYS = 14
_WAIT_S = 5.0


def tls_findings(url: str, options: Mapping[str, str], now: datetime) -> Iterator[Finding]:
    """Examines the certificate of the box.

    Args:
        url: Where it serves, "" where it does not.
        options: Of `serve` in its unit.
        now: The clock.
    """
    chain = b""
    if "tls-cert" in options and "tls-key" in options:
        try:
            chain = read(TlsFiles(Path(options["tls-cert"]), Path(options["tls-key"])), (), now).cert_pem
        except BadInput as error:
            yield Finding("certificate files", BAD, error.fact, error.hint)
        else:
            yield _days("certificate files", days_left(chain, now), "renew them; a running box takes them by itself")
    shown = shown_at(url)
    if shown:
        yield _days("certificate", days_left(shown, now), "renew it; one of the box's own CA: restart the service")
        if chain and leaf_of(chain) != leaf_of(shown):
            fact = "the box shows another certificate than its files hold"
            yield Finding("certificate", WARN, fact, "it takes them within seconds, or its journal says why not")


def shown_at(url: str) -> bytes:
    """Returns the certificate that this box shows, as PEM; b"" where there is none to see."""
    parts = urlsplit(url)
    if parts.scheme != "https":
        return b""
    try:
        # Whoever holds the port is our own supervisor: what it shows is looked at, and nothing is sent.
        return ssl.get_server_certificate((str(parts.hostname), int(parts.port or 0)), timeout=_WAIT_S).encode()
    except OSError:  # it stops just now; `port` tells where it serves
        return b""


def _days(subject: str, days: int, hint: str) -> Finding:
    if days < 0:
        return Finding(subject, BAD, f"it ended {-days} days ago: clients refuse it", hint)
    told = f"good for {days} days more"
    return Finding(subject, WARN if days < SOON_DAYS else GOOD, told, hint if days < SOON_DAYS else "")
