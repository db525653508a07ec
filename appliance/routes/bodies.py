"""Request bodies: read within limits, decoded strictly for what we know.

Fields that we do not know are let through in the shapes of others (OpenAI's, and that of reranking), since clients send
many; in our own shapes they are refused.
"""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any, Literal, TypedDict, TypeVar

import msgspec
from litestar import Request
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from msgspec import Meta, Struct

from appliance.answer.answering import Answering
from appliance.edge.caller import caller_of
from appliance.engine.pooled_request import AUTO, REQUEST_TEXTS
from appliance.gateway.options import QUESTION_CHARS_MOST
from appliance.routes.errors import ApiError

Count = Annotated[int, Meta(ge=1, le=2**31)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Share = Annotated[float, Meta(ge=0, le=1)]
Heat = Annotated[float, Meta(ge=0, le=2)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Question = Annotated[str, Meta(min_length=1, max_length=QUESTION_CHARS_MOST)]
Stop = str | Annotated[list[str], Meta(max_length=16)]
Dict = dict[str, Any]

T = TypeVar("T", bound=Struct)

ONCE_CHARS = 255
_NAME_CHARS, _NAMES_TOLD = 100, 5
_PATH = re.compile(r" - at `\$\.?(?P<path>[^`]*)`")


class Part(Struct):
    """A part of a message's content."""

    type: str
    text: str | None = None


class Message(Struct):
    """A message of a chat."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None
    tool_calls: list[Dict] | None = None


class StreamOptions(Struct):
    """Options of a stream."""

    include_usage: bool | None = None


class _Generation(Struct):
    model: str = AUTO
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Count | None = None
    temperature: Heat | None = None
    top_p: Share | None = None
    seed: Seed | None = None
    stop: Stop | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, float] | None = None
    user: str | None = None


class ChatRequest(_Generation, kw_only=True):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: list[Dict] | None = None
    functions: list[Dict] | None = None
    tool_choice: str | Dict | None = None
    response_format: Dict | None = None
    modalities: list[str] | None = None
    metadata: Dict | None = None
    store: bool | None = None


class TextRequest(_Generation, kw_only=True):
    """`POST /v1/completions`; prompts of token numbers are not taken, because rungs differ in their tokens."""

    prompt: str | Annotated[list[str], Meta(min_length=1)]
    best_of: Annotated[int, Meta(ge=1, le=20)] | None = None
    logprobs: int | None = None
    echo: bool | None = None
    suffix: str | None = None


class EmbeddingRequest(Struct):
    """`POST /v1/embeddings`: a text, token numbers, or a list of either; which of them a model takes it says itself."""

    input: str | Annotated[list[str | int | list[int]], Meta(min_length=1)]
    model: str = AUTO
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


class Document(Struct):
    """A document to be ranked, where it is no plain text."""

    text: str


class RerankRequest(Struct):
    """`POST /v1/rerank`; documents are texts, or objects with a `text`."""

    query: Question
    documents: Annotated[list[str | Document], Meta(min_length=1, max_length=REQUEST_TEXTS)]
    model: str = AUTO
    top_n: Count | None = None


class _Own(Struct, forbid_unknown_fields=True):
    """A request of our own shape: a misspelt option that was passed over would be a wrong answer without a word."""


class SearchRequest(_Own):
    """`POST /v1/search`."""

    query: Question
    top_k: Annotated[int, Meta(ge=1, le=100)] = 5
    collection: str | None = None


class QuestionRequest(_Own):
    """`POST /v1/faq` and `/v1/ask`."""

    question: Question


class RouteRequest(_Own):
    """`POST /v1/route`."""

    input: Question
    router: str | None = None


async def read(request: Request[Any, Any, Any], kind: type[T], limit_s: float) -> tuple[T, Dict]:
    """Returns the request's body as a checked struct, and as it came.

    Raises:
        ApiError: 400 where it is not what `kind` says, 408 where it did not come in time.
    """
    data = await (_arrived(request) if caller_of(request.scope).has_sent else _within(request, limit_s))
    checked, raw = decoded(data, kind)
    models = request.scope["state"]["grant"].models
    asked = getattr(checked, "model", None)
    if models and asked is not None and asked not in models:
        raise ApiError(403, "model_not_allowed", f"this token is for {', '.join(models)}", param="model")
    return checked, raw


async def _arrived(request: Request[Any, Any, Any]) -> bytes:
    """Reads a body that is all there: without a clock and a look at its announcement, which take longer than this."""
    answering: Answering = request.app.state.answering
    message = await request.receive()
    if message["type"] != "http.request":
        raise ApiError(400, "bad_request", "the connection was lost")
    if len(message["body"]) > answering.box.service.limits.body_bytes:
        raise RequestEntityTooLarge
    return message["body"]


async def _within(request: Request[Any, Any, Any], limit_s: float) -> bytes:
    try:
        async with asyncio.timeout(limit_s):
            return await request.body()
    except TimeoutError:
        raise ApiError(408, "request_timeout", f"the request did not arrive within {limit_s:.0f} s") from None


class AskedBy(TypedDict):
    """What a request brings beside its body, as `Answering.call` takes it."""

    tenant: str
    via: str
    once: str
    regions: tuple[str, ...] | None


def asked_by(request: Request[Any, Any, Any]) -> AskedBy:
    """Returns whose request it is, where its data may go, what boxes it passed, and the caller's key of it.

    Raises:
        ApiError: The key is longer than a key is.
    """
    found: Dict = request.scope["state"]
    regions = found["grant"].regions
    return {"tenant": found["tenant"], "via": found["via"], "once": once_of(request), "regions": regions}


def once_of(request: Request[Any, Any, Any]) -> str:
    """Returns the caller's idempotency key, "" where there is none.

    Raises:
        ApiError: It is longer than a key is.
    """
    key: str = request.scope["state"]["head"].get(b"idempotency-key", b"").decode("latin-1")
    if len(key) > ONCE_CHARS:
        raise ApiError(400, "invalid_value", f"the Idempotency-Key is longer than {ONCE_CHARS} characters")
    return key


def decoded(data: bytes, kind: type[T]) -> tuple[T, Dict]:
    """Decodes a body.

    Raises:
        ApiError: It is not JSON, not an object, or a field is not what `kind` says, or of a kind of ours unknown.
    """
    try:
        raw = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ApiError(400, "invalid_json", "the request body is not valid JSON in UTF-8") from None
    if not isinstance(raw, dict):
        raise ApiError(400, "invalid_json", "the request body is not a JSON object")
    if kind.__struct_config__.forbid_unknown_fields:
        _known_only(raw, kind.__struct_encode_fields__)
    try:
        return msgspec.convert(raw, kind), raw
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None


def _known_only(raw: Dict, known: tuple[str, ...]) -> None:
    """Refuses fields that are not known, the first few by name."""
    unknown = [name for name in raw if name not in known]
    if unknown:
        named = ", ".join(repr(name[:_NAME_CHARS]) for name in unknown[:_NAMES_TOLD])
        message = f"there is no field {named} here; expected one of: {', '.join(known)}"
        raise ApiError(400, "unknown_field", message, param=unknown[0][:_NAME_CHARS])


def _invalid(text: str) -> ApiError:
    found = _PATH.search(text)
    if found is None:
        return ApiError(400, "invalid_value", text)
    path = found["path"].replace("...", "0")
    return ApiError(400, "invalid_value", f"{path}: {text[: found.start()]}", param=path)
