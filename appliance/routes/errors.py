"""Errors as OpenAI's clients expect them: `{"error": {message, type, param, code}}`; an exception's repr never leaves.

Every exception that a handler lets out passes `render` once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException

from appliance.answer.answering import Answering, UnknownModel
from appliance.answer.pooling import NotServing
from appliance.gateway.climb import NoRung
from appliance.gateway.outcome import Refused
from appliance.unattended import note
from bundler.format.errors import Busy

TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
HTTP_WORDS = {
    400: ("bad_request", "the request cannot be read"),
    404: ("not_found", "there is no such path here; the API is under /v1"),
    405: ("method_not_allowed", "this path does not take that method"),
    413: ("request_too_large", "the request body is too large"),
}
UNAVAILABLE = "unavailable"
# Where Anthropic's clients call, and its words for a status.
MESSAGES_PATH = "/v1/messages"
MESSAGE_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}

log = logging.getLogger("lifeboat.http")


class ApiError(Exception):
    """An answer that is an error.

    Args:
        status: HTTP status.
        code: Short and stable, for programs.
        message: For people: what is wrong and what would be right.
        param: The field at fault, or None.
        headers: Further response headers.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param = status, code, message, param
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        kind = TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "api_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def message_body(self) -> dict[str, Any]:
        """The body as Anthropic's clients expect it."""
        kind = MESSAGE_TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "api_error")
        return {"type": "error", "error": {"type": kind, "message": self.message, "code": self.code}}


def not_ready(what: str) -> ApiError:
    """Returns the error of a part that is not there now; it may come."""
    return ApiError(503, UNAVAILABLE, what, headers={"Retry-After": "5"})


def as_api_error(error: Exception, answering: Answering) -> ApiError:
    """Translates what the answering side raises; anything unknown is our own fault, logged and not shown."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, UnknownModel):
        return unknown_model(str(error), answering.models())
    if isinstance(error, NoRung):
        return no_rung(error)
    if isinstance(error, Refused):
        return ApiError(error.status, error.code or "refused_by_upstream", error.message)
    if isinstance(error, NotServing):
        return not_ready(str(error))
    if isinstance(error, Busy):
        return ApiError(429, "queue_full", f"{error.fact}; {error.hint}", headers={"Retry-After": "1"})
    if isinstance(error, HTTPException):
        return _from_http(error)
    note(log, "a request failed", error)
    return ApiError(500, "internal_error", "this box failed to handle the request; its log has the details")


def unknown_model(name: str, known: list[str]) -> ApiError:
    """Returns the 404 with the list of what there is."""
    message = f"there is no model {name[:100]!r} here; this box serves: {', '.join(known)}"
    return ApiError(404, "model_not_found", message, param="model")


def no_rung(error: NoRung) -> ApiError:
    """Returns 400 where no rung can ever serve the request, 429 where those that can are busy, else 503."""
    reasons = "; ".join(f"{skip.rung}: {skip.reason}" for skip in error.skips) or "the ladder has no rungs"
    if error.incapable:
        return ApiError(400, error.code, f"no rung of this box can serve the request: {reasons}")
    message = f"no rung can serve the request now: {reasons}"
    if error.busy:
        return ApiError(429, "queue_full", message, headers={"Retry-After": "3"})
    return ApiError(503, "no_rung_available", message, headers={"Retry-After": "3"})


def render(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    """Litestar's exception handler for everything."""
    answering: Answering = request.app.state.answering
    api_error = as_api_error(error, answering)
    request.app.state.metrics.erred(endpoint_label(request), api_error.status)
    body = api_error.message_body if request.url.path.startswith(MESSAGES_PATH) else api_error.body
    return Response(body, status_code=api_error.status, headers=api_error.headers)


def endpoint_label(request: Request[Any, Any, Any]) -> str:
    """Returns the route's path for metrics; whatever is no route is one label, so that a scan adds no series."""
    template = request.scope.get("path_template", "")
    return template or "other"


def _from_http(error: HTTPException) -> ApiError:
    status = error.status_code
    code, words = HTTP_WORDS.get(status, ("http_error", "the request cannot be served"))
    return ApiError(status, code, words)
