"""Whom an upstream's TLS trusts: the machine's authorities, or those of its profile alone."""

from __future__ import annotations

import ssl

PEM = "-----BEGIN CERTIFICATE-----"


def context_of(ca: str) -> ssl.SSLContext:
    """Returns the context of one upstream.

    Args:
        ca: Certificates as PEM, of which one must have signed the upstream's; "" for the machine's own authorities.

    Raises:
        ValueError: It holds no certificate.
    """
    if not ca:
        return ssl.create_default_context()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # none of the machine's: its own host name check is on
    try:
        # What is not ASCII can only stand between the certificates, as a comment.
        context.load_verify_locations(cadata=ca.encode("ascii", "ignore").decode())
    except ssl.SSLError as error:
        raise ValueError("no certificate can be read in it") from error
    return context


def readable(ca: str) -> bool:
    """Says whether a context can be made of these certificates."""
    try:
        context_of(ca)
    except ValueError:
        return False
    return True
