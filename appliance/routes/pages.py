"""The static pages: read once at start, no CDN, no data in them; and the box CA's certificate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from litestar import Request, get
from litestar.types import ASGIApp

from appliance.routes.errors import ApiError
from appliance.routes.reply import Whole
from appliance.settings import Settings

WEB = Path(__file__).parent.parent / "web"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
PAGES = {
    "/": "index.html",
    "/status": "status.html",
    "/app.js": "app.js",
    "/status.js": "status.js",
    "/style.css": "style.css",
    "/icon.svg": "icon.svg",
}
# No inline script or style, nothing from elsewhere, no framing: an injected answer has nowhere to go.
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def load_pages() -> dict[str, tuple[bytes, str]]:
    """Returns path -> (content, media type) of every static page."""
    files = {path: WEB / name for path, name in PAGES.items()}
    return {path: (file.read_bytes(), TYPES[file.suffix]) for path, file in files.items()}


@get(list(PAGES))
async def page(request: Request[Any, Any, Any]) -> ASGIApp:
    content, media_type = request.app.state.pages[request.scope["path"].rstrip("/") or "/"]
    return Whole(content, media_type=media_type)


@get("/ca.crt")
async def ca_certificate(request: Request[Any, Any, Any]) -> ASGIApp:
    settings: Settings = request.app.state.settings
    if not settings.ca_pem:
        raise ApiError(
            404, "no_ca", "clients need no CA of this box: it serves without TLS, or by a certificate of its operator's"
        )
    return Whole(settings.ca_pem, media_type="application/x-x509-ca-cert")
