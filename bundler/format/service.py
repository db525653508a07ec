"""What the box needs of a profile: it travels inside the index, so the box never parses a profile.

No floats (canonical JSON holds none): thresholds that are fractions live in the assets that the builder fitted.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bundler.format.dependency import DependencySpec
from bundler.format.image import ImageSpec
from bundler.format.record import LATER
from bundler.format.store import CollectionSpec

RUNG_KINDS = ("upstream", "model", "cache", "faq", "documents", "message")
CACHE = "cache"  # a rung only where a route or the ladder says how long answers are kept
# What a model of its own engine does: answers, gives vectors, or ranks documents. Only the first is a rung.
CHAT, EMBEDDING, RERANK = SERVES = ("chat", "embedding", "rerank")
# What a rung of an upstream can be said to do beyond plain text; one of which nothing is said is asked.
ABILITIES = ("tools", "schema", "vision")
# The wires that an upstream can speak; the first is the default.
OPENAI, ANTHROPIC = UPSTREAM_KINDS = ("openai", "anthropic")
# What is known by its form, and what a profile gives the form of.
PATTERN = "pattern"
REDACT_KINDS = ("email", "phone", "iban", "card", "ip", PATTERN)
# The header that carries an upstream's key; "" is that of its kind: a bearer token, and x-api-key for Anthropic's.
AUTHS = ("", "bearer", "api-key", "x-api-key")
# When a stream breaks after its first words (STREAMS), how a route stands among others (CRITICALITIES), and
# what is done with a request that is too long for a rung (TOO_LONG); the first of each is the default.
ERROR, HOLD, CONTINUE = STREAMS = ("error", "hold", "continue")
NORMAL, CRITICAL, CONVENIENCE = CRITICALITIES = ("normal", "critical", "convenience")
LARGER, DROP, DECLINE = TOO_LONG = ("larger", "drop", "decline")
# What a small machine keeps to that is busy; part of the format, since an absent limit means these (SPEC 11.3).
MODEL_MS, SEARCH_MS = 60_000, 5_000


@dataclass(frozen=True)
class ModelSpec:
    """A GGUF asset and how to run it.

    Attributes:
        digest: `index.content_digest` of the asset.
        max_output_tokens: The longest answer; 0 where `serves` is not CHAT.
        serves: One of SERVES.
        languages: The languages that it answers in, as ISO 639-1 codes; none named is any.
    """

    name: str
    asset: str
    digest: str
    context_tokens: int
    max_output_tokens: int
    serves: str = field(default=CHAT, metadata=LATER)
    languages: tuple[str, ...] = field(default=(), metadata=LATER)


@dataclass(frozen=True)
class EmbeddingSpec:
    """The embedding model: its ONNX graph and tokenizer; vectors of another model or precision are refused.

    Attributes:
        pooling: "mean", "cls" or "max", or "graph" where the output is a row a text already.
        output: The output of a graph that was taken as it came, which the box pools and normalises; "" for a converted
            graph, which does both itself.
        query_prefix: Goes before each text that is asked; "" for none.
        passage_prefix: Goes before each passage.
    """

    name: str
    asset: str
    tokenizer: str
    sha256: str
    dimensions: int
    max_tokens: int
    pooling: str
    precision: str
    output: str = field(default="", metadata=LATER)
    query_prefix: str = field(default="", metadata=LATER)
    passage_prefix: str = field(default="", metadata=LATER)


@dataclass(frozen=True)
class FaqSpec:
    """An FAQ: `faq.jsonl`, `vectors.npy` and `matcher.json` under `prefix`."""

    name: str
    prefix: str


@dataclass(frozen=True)
class RouterSpec:
    """A router: `router.json`, `weights.npy` and `examples.npy` under `prefix`."""

    name: str
    prefix: str


@dataclass(frozen=True)
class PairSpec:
    """A name and its value."""

    name: str
    value: str


@dataclass(frozen=True)
class WireSpec:
    """How requests to an upstream are sent.

    Attributes:
        auth: One of AUTHS.
        query: Goes with every request, such as an API version.
        headers: The same.
        body: Fields that a request gets where it has them not, as JSON of an object; "" for none.
        without: Fields that it is sent without, and that the caller is told of.
        proxy: The HTTP proxy that reaches it, or "".
        ca: Certificates as PEM, or the name of a secret of the box: nobody else is trusted; "" for the usual ones.
    """

    auth: str = field(default="", metadata=LATER)
    query: tuple[PairSpec, ...] = field(default=(), metadata=LATER)
    headers: tuple[PairSpec, ...] = field(default=(), metadata=LATER)
    body: str = field(default="", metadata=LATER)
    without: tuple[str, ...] = field(default=(), metadata=LATER)
    proxy: str = field(default="", metadata=LATER)
    ca: str = field(default="", metadata=LATER)


PLAIN_WIRE = WireSpec()


@dataclass(frozen=True)
class UpstreamSpec:
    """A provider. `key` is `env:NAME` or the name of a secret of the box, or "".

    Attributes:
        context_tokens: The longest request and answer together; 0 where that is not said.
        can: Which of ABILITIES it has; None where nothing is said, so that it is asked and answers for itself.
        languages: The languages that it answers in, as ISO 639-1 codes; none named is any.
        continues: Whether it goes on with an answer that has begun (`continue_final_message`).
        kind: One of UPSTREAM_KINDS: the wire that it speaks.
        wire: How requests to it are sent.
    """

    name: str
    base_url: str
    model: str
    key: str
    region: str
    connect_timeout_ms: int
    first_token_timeout_ms: int
    stall_timeout_ms: int
    context_tokens: int = field(default=0, metadata=LATER)
    can: tuple[str, ...] | None = field(default=None, metadata=LATER)
    languages: tuple[str, ...] = field(default=(), metadata=LATER)
    continues: bool = field(default=False, metadata=LATER)
    kind: str = field(default=OPENAI, metadata=LATER)
    wire: WireSpec = field(default=PLAIN_WIRE, metadata=LATER)


@dataclass(frozen=True)
class RungSpec:
    """A rung of a ladder: `kind` is one of RUNG_KINDS, `target` names the upstream, model, FAQ or collection."""

    name: str
    kind: str
    target: str


@dataclass(frozen=True)
class CacheSpec:
    """Answers of providers that are kept for the same request of the same tenant.

    Attributes:
        keep_s: How long one is kept, and given where the rungs above have failed.
        fresh_s: How long one is given before any rung is asked; 0 is never.
    """

    keep_s: int
    fresh_s: int = field(default=0, metadata=LATER)


@dataclass(frozen=True)
class LadderSpec:
    """The order in which rungs are tried, by name, for chat and for `/v1/ask`; and the words of the last rung.

    Attributes:
        cache: Of requests for no named model or route; None where their answers are not kept.
        jobs_keep_s: As that of a route, for the same requests.
    """

    rungs: tuple[RungSpec, ...]
    chat: tuple[str, ...]
    ask: tuple[str, ...]
    banner: str
    message: str
    handoff: str
    cache: CacheSpec | None = field(default=None, metadata=LATER)
    jobs_keep_s: int = field(default=0, metadata=LATER)


@dataclass(frozen=True)
class OutputSpec:
    """What an answer of a route must be; the rung that gives another one has failed, and the next one is asked.

    Attributes:
        schema: The JSON schema of the answer, as JSON; "" for none.
        languages: ISO 639-1 codes of which its language must be one; none named is any.
        refusals: Words with which an answer that only declines begins.
        own_model: Whether the answer must name the model that was asked.
    """

    schema: str
    languages: tuple[str, ...]
    refusals: tuple[str, ...]
    own_model: bool


@dataclass(frozen=True)
class RouteSpec:
    """A logical model: the name that clients ask for, and how they are served.

    Attributes:
        rungs: Names of rungs, in the order in which they are tried.
        stream: One of STREAMS.
        criticality: One of CRITICALITIES.
        deadline_ms: By when an answer must have begun; 0 is `request_timeout_ms` of the limits.
        too_long: One of TOO_LONG.
        regions: As those of the limits, for this route.
        cache: How long its answers are kept; None where they are not.
        jobs_keep_s: How long a job is tried, and its answer kept after; 0 where none is taken.
    """

    name: str
    rungs: tuple[str, ...]
    stream: str = field(default=ERROR, metadata=LATER)
    criticality: str = field(default=NORMAL, metadata=LATER)
    deadline_ms: int = field(default=0, metadata=LATER)
    too_long: str = field(default=LARGER, metadata=LATER)
    output: OutputSpec | None = field(default=None, metadata=LATER)
    regions: tuple[str, ...] | None = field(default=None, metadata=LATER)
    cache: CacheSpec | None = field(default=None, metadata=LATER)
    jobs_keep_s: int = field(default=0, metadata=LATER)


@dataclass(frozen=True)
class RedactSpec:
    """What is taken out of a request before it goes to any upstream.

    Attributes:
        kind: One of REDACT_KINDS.
        pattern: A regular expression, for PATTERN; else "".
        restore: Whether the answer gets the original back.
    """

    name: str
    kind: str
    pattern: str
    restore: bool


@dataclass(frozen=True)
class HandoffSpec:
    """Where the tickets of the last rung go, once the network is there.

    Attributes:
        url: `https://...` takes them as JSON, `smtp://host:port` (STARTTLS) and `smtps://host:port` as mail.
        key: What authenticates the box, `env:NAME` or the name of a secret of the box: a bearer token, or the password
            of `user`; "" for none.
        user: Who logs in at the mail server; "" for nobody.
        sender: The address that mail comes from.
        recipients: The addresses that it goes to.
        keep_s: How long a ticket waits for the network at most, and its outcome is known after.
        words: What an answer says of its ticket; holds `{ticket}`.
        ca: Certificates as PEM, or the name of a secret of the box that holds them, of which one must have signed the
            receiver's; "" for the authorities of the machine.
    """

    url: str
    key: str
    user: str
    sender: str
    recipients: tuple[str, ...]
    keep_s: int
    words: str
    ca: str = field(default="", metadata=LATER)


@dataclass(frozen=True)
class LimitsSpec:
    """Limits of the box's edge and queue.

    Attributes:
        regions: The regions of upstreams to which data may go; None is any, and none named is no upstream.
    """

    body_bytes: int
    queue_requests: int
    request_timeout_ms: int
    regions: tuple[str, ...] | None = field(default=None, metadata=LATER)


@dataclass(frozen=True)
class SelftestSpec:
    """The self-test: its cases, the least share of each kind that must hold, in percent, and what a box must keep to.

    Attributes:
        model_ms: The longest that a model may take for a short answer (the median of five).
        search_ms: The longest that the FAQ, the documents or a router may take (the median of five).
        memory_mb: The most memory that knowledge and models may take together, in 10^6 bytes; 0 is what the box has.
    """

    asset: str
    faq_percent: int
    documents_percent: int
    route_percent: int
    refuse_percent: int
    model_ms: int = field(default=MODEL_MS, metadata=LATER)
    search_ms: int = field(default=SEARCH_MS, metadata=LATER)
    memory_mb: int = field(default=0, metadata=LATER)


@dataclass(frozen=True)
class Service:
    """A profile as the box sees it."""

    profile: str
    title: str
    models: tuple[ModelSpec, ...]
    embedding: EmbeddingSpec | None
    collections: tuple[CollectionSpec, ...]
    faqs: tuple[FaqSpec, ...]
    routers: tuple[RouterSpec, ...]
    upstreams: tuple[UpstreamSpec, ...]
    ladder: LadderSpec
    limits: LimitsSpec
    selftest: SelftestSpec | None
    inventory: tuple[DependencySpec, ...]
    routes: tuple[RouteSpec, ...] = field(default=(), metadata=LATER)
    handoff: HandoffSpec | None = field(default=None, metadata=LATER)
    redact: tuple[RedactSpec, ...] = field(default=(), metadata=LATER)
    images: tuple[ImageSpec, ...] = field(default=(), metadata=LATER)
