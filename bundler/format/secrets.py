"""Takes logins and tokens out of the addresses in a message: a message goes to screens, logs and support files. Pure.

What is masked may be foreign, so no pattern here looks far ahead.
"""

from __future__ import annotations

import re

MASK = "***"
# USER:PASSWORD@ before a host (RFC 3986, 3.2.1), a password with a `/` too; HOST:PORT/NAME@sha256:... is none.
_USER = r"[^\s/@:\[]{0,200}:(?!//|[0-9]{1,5}(?:[/?#\s\"']|$))\S{0,400}@(?!sha256:)"
_LOGIN = re.compile(rf"//(?:[^\s/]{{0,1000}}@|{_USER})")
# The same right after the scheme of a source, and a token alone; `hub:NAME@main` stays.
_SOURCE_LOGIN = re.compile(rf"\b(chroma|docker|hub|oci|registry|wheel):(?!//)(?:{_USER}|[^\s/@]{{20,400}}@(?!sha256:))")
_QUERY = re.compile(r"(://[^\s?\"'<>]{1,1000}\?)[^\s\"'<>#)]+")
_PARAMETER = re.compile(r"([?&][A-Za-z0-9_.~-]{1,64}=)[^\s\"'<>&#)]+")


def masked(text: str) -> str:
    """Returns a text without the user information and the queries of its addresses."""
    text = _LOGIN.sub(f"//{MASK}@", text)
    text = _SOURCE_LOGIN.sub(rf"\1:{MASK}@", text)
    text = _QUERY.sub(rf"\1{MASK}", text)
    return _PARAMETER.sub(rf"\1{MASK}", text)
