"""What goes up the ladder and what comes back: a call, an answer, and the reasons of rungs that did not serve."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from appliance.engine.pooled_request import AUTO
from bundler.format.service import CONVENIENCE, CRITICAL, RouteSpec

CHAT, TEXT, VECTORS, RANKING = "chat", "text", "vectors", "ranking"
PATHS = {CHAT: "/chat/completions", TEXT: "/completions", VECTORS: "/embeddings", RANKING: "/rerank"}

# Lower goes first in an engine's queue; who can wait comes after the others of its kind.
_PRIORITY = {CRITICAL: -2, CONVENIENCE: 2}
_LATER = 4


NO_ROUTE = RouteSpec(AUTO, ())


@dataclass
class Spent:
    """What a call has learned and spent on its way, on all of its rungs together.

    Attributes:
        waited_s: Seconds of waiting until an engine was back.
        deaths: How many local engines ended under it.
        outgrown_tokens: The longest declared context that was too short for it.
        attempts: How often providers were asked.
    """

    waited_s: float = 0.0
    deaths: int = 0
    outgrown_tokens: int = 0
    attempts: int = 0


@dataclass(frozen=True)
class Call:
    """One request, checked, on its way up the ladder.

    Args:
        wire: CHAT for `/v1/chat/completions`, TEXT for `/v1/completions`; VECTORS and RANKING climb no ladder.
        body: The request as it came, decoded; `model` is replaced for each upstream.
        question: What the caller asks, as plain text: the last user message, or the prompt.
        stream: Whether the caller wants events.
        model: The name that the caller asked for; "auto" is the whole ladder.
        needs: Options that change what the caller may rely on (`options.NEEDS`).
        ignorable: Options that a rung of the box does without.
        deadline_s: Monotonic time by which an answer must have begun.
        tenant: Whose it is: the id of the token.
        public_messages: How many of the first messages are text of the signed bundle, and no secret of a tenant.
        spent: Counted on; copies of the call count on the same.
        route: How it is served.
        cannot: Rungs that cannot serve this request, whatever their state, with the reason.
        regions: Where its tenant lets its data go; None is anywhere.
        via: The boxes that it has passed, this one last.
        continues: The last message is the beginning of the answer, which somebody else has sent already.
        once: The caller's idempotency key, or "".
        cache_control: The caller's header of this name, or "".
        later: Nobody waits for its answer: whoever waits goes first.
    """

    wire: str
    body: dict[str, Any]
    question: str
    stream: bool
    model: str
    needs: frozenset[str]
    ignorable: tuple[str, ...]
    deadline_s: float
    tenant: str = ""
    public_messages: int = 0
    spent: Spent = field(default_factory=Spent)
    route: RouteSpec = NO_ROUTE
    cannot: Mapping[str, str] = field(default_factory=dict)
    continues: bool = False
    regions: tuple[str, ...] | None = None
    via: tuple[str, ...] = ()
    once: str = ""
    cache_control: str = ""
    later: bool = False

    @property
    def batch(self) -> bool:
        """Whether the caller can wait: OpenAI's `service_tier: "flex"`."""
        return self.body.get("service_tier") == "flex"

    @property
    def priority(self) -> int:
        """How it stands in the queue of an engine; lower goes first."""
        return _LATER if self.later else _PRIORITY.get(self.route.criticality, 0) + int(self.batch)

    @property
    def choices(self) -> int:
        """How many answers were asked for: `n` for each prompt."""
        count, prompt = self.body.get("n"), self.body.get("prompt")
        texts = len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1
        return (count if isinstance(count, int) else 1) * texts

    @property
    def wants_usage(self) -> bool:
        options = self.body.get("stream_options")
        return isinstance(options, dict) and options.get("include_usage") is True


@dataclass(frozen=True)
class Chunk:
    """One event of a stream: the bytes after `data:`, and what they say. Without bytes it says that work goes on."""

    raw: bytes
    value: dict[str, Any]


WORKING = Chunk(b"", {})


class ChunkStream(Protocol):
    """Chunks whose first one is already there; `close` also where nobody began to read."""

    def __aiter__(self) -> AsyncIterator[Chunk]: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Citation:
    """A passage that an answer rests on: `quote` is `text[start:end]` of the document `source`, in characters."""

    source: str
    start: int
    end: int
    quote: str


@dataclass(frozen=True)
class Segment:
    """A part of a streamed answer that more than one rung gave.

    Attributes:
        chars: How many characters of the text are this rung's.
        usage: What it says that it used, None where it broke off before it said so.
    """

    rung: str
    served_by: str
    model: str
    chars: int
    usage: dict[str, Any] | None


@dataclass
class Told:
    """What shows while an answer is made, and is told with it.

    Attributes:
        segments: Who gave which part, where more than one rung did.
        held: Why an answer that was held is given before its end, or "".
        damaged_chunks: How many chunks could not be read and are missing.
        dropped_turns: How many of the oldest turns the rung did not see, because all were too long for it.
        without: Why a local model answers without the passages of the documents, or "".
        redacted: How many texts were taken out of the request before it left.
        upstream: What another box says of itself that gave the answer.
        mode: The box's mode when another rung went on with the answer, or "".
        banner: What goes with the answer since then, or "".
        ticket: The hand-off ticket by which a person gets the request, or "".
        cached: Where the answer is from and how old it is, where it was kept from before.
    """

    segments: list[Segment] = field(default_factory=list)
    held: str = ""
    damaged_chunks: int = 0
    dropped_turns: int = 0
    without: str = ""
    upstream: dict[str, str] = field(default_factory=dict)
    redacted: int = 0
    mode: str = ""
    banner: str = ""
    ticket: str = ""
    cached: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What a rung gives: a whole `body`, or the `chunks` of a stream; `told` grows until the stream has ended."""

    rung: str
    kind: str
    served_by: str
    body: dict[str, Any] | None = None
    chunks: ChunkStream | None = None
    citations: tuple[Citation, ...] = ()
    confidence: float | None = None
    ignored: tuple[str, ...] = ()
    told: Told = field(default_factory=Told)


@dataclass(frozen=True)
class Skip:
    """Why a rung did not serve; `incapable`: it never could have served this request; `busy`: it has too much to do."""

    rung: str
    reason: str
    incapable: bool = False
    code: str = ""
    busy: bool = False


@dataclass(frozen=True)
class Served:
    """An answer, the mode it was given in, the rungs that were passed on the way, and what the box was pinned to."""

    answer: Answer
    mode: str
    banner: str | None
    skips: tuple[Skip, ...] = field(default=())
    pinned: str = ""
