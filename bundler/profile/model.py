"""A profile as the builder sees it: frozen facts, checked by `read`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bundler.format.dependency import DependencySpec
from bundler.format.service import (
    CHAT,
    HandoffSpec,
    LadderSpec,
    LimitsSpec,
    RedactSpec,
    RouteSpec,
    UpstreamSpec,
)
from bundler.profile.vectors import VectorsEntry

# "auto" is int8 where that strays little from fp32 (`bundler.capture.bert_to_onnx`), else fp32; fp16 is for GPUs.
PRECISIONS = ("auto", "fp32", "int8", "fp16")

# What `[bundle] public` may name, and the files that it stands for.
BESIDE = {"sbom": "sbom.cdx.json", "provenance": "provenance.dsse.json", "licences": "licences.txt"}


@dataclass(frozen=True)
class LicenceRules:
    """The `[licences]`: SPDX identifiers, with `*` for families; `allow` None allows all that is not denied."""

    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()


NO_RULES = LicenceRules()


@dataclass(frozen=True)
class SignerEntry:
    """Who must have signed a model (OpenSSF model signing).

    Attributes:
        key: `file:` source of a public key, or of certificates that the signer's must lead to, as PEM.
        signature: Source of the signature; "" for `model.sig` where the model comes from.
    """

    key: str
    signature: str


@dataclass(frozen=True)
class ModelEntry:
    """A `[[model]]`: a GGUF to be snapshotted; `licence_file` is "" where its source brings the text.

    Attributes:
        serves: One of `service.SERVES`.
        max_output_tokens: 0 where it serves no chat.
        languages: The languages that it answers in; none named is any.
        template: Where the base model's chat template lies, which this one's is compared with; "" for nowhere.
    """

    name: str
    source: str
    licence: str
    licence_file: str
    context_tokens: int
    max_output_tokens: int
    serves: str = CHAT
    languages: tuple[str, ...] = ()
    template: str = ""
    signer: SignerEntry | None = None


@dataclass(frozen=True)
class EmbeddingEntry:
    """The `[embedding]`: the folder of a model that is converted (BERT), or whose ONNX export is taken as it is.

    Attributes:
        precision: One of PRECISIONS.
        onnx: The export inside the folder that is taken byte for byte; "" converts `model.safetensors`.
        pooling: One of `reading.POOLINGS` for an export; "" where the folder says it as sentence-transformers does.
        query_prefix: Goes before what is asked, as some models want it.
        passage_prefix: Goes before passages.
        is_open: The profile says neither `onnx` nor `precision`: a hub's own export is taken where it offers one.
        why: What decided between export and conversion where the profile did not; "" where it did.
    """

    name: str
    source: str
    licence: str
    licence_file: str
    max_tokens: int
    precision: str
    onnx: str = ""
    pooling: str = ""
    query_prefix: str = ""
    passage_prefix: str = ""
    signer: SignerEntry | None = None
    is_open: bool = False
    why: str = ""


@dataclass(frozen=True)
class ContentEntry:
    """A `[[documents]]`, `[[faq]]` or `[[router]]`: its name and where its content lies."""

    name: str
    source: str


@dataclass(frozen=True)
class ImageEntry:
    """An `[[image]]`: a container image that the box hands to podman or docker.

    Attributes:
        platform: Such as "linux/amd64", or "all".
        licence: SPDX identifier, or "": an image is many programs.
    """

    name: str
    source: str
    platform: str
    licence: str


@dataclass(frozen=True)
class TierEntry:
    """The `[tier]` of a tier's file: the machine that its models fit.

    Attributes:
        file: Where it was read.
        memory_gb: Memory of the machine, in GB as machines are sold (2^30 bytes).
        gpu_memory_gb: Memory of its GPU, in the same; 0 for none.
        needs_mb: What the models take there with their contexts, in MB (10^6 bytes).
    """

    name: str
    title: str
    file: Path
    memory_gb: int
    gpu_memory_gb: int
    needs_mb: int

    def __str__(self) -> str:
        where = f"a GPU of {self.gpu_memory_gb} GB" if self.gpu_memory_gb else f"{self.memory_gb} GB of memory"
        return f"{self.name} ({self.title}): the models take about {self.needs_mb:,} MB of {where}"


@dataclass(frozen=True)
class SelftestEntry:
    """The `[selftest]`: case files, the least share of each kind that must hold, in percent, and a box's limits."""

    cases: tuple[str, ...]
    faq_percent: int
    documents_percent: int
    route_percent: int
    refuse_percent: int
    model_ms: int
    search_ms: int
    memory_mb: int


@dataclass(frozen=True)
class Profile:
    """What a bundle shall hold and how the box shall answer.

    Attributes:
        base: The folder that `file:` sources start from.
        base_repository: One whose volumes are used, or None.
        recovery: Whether every bundle is also wrapped to the MSP's recovery site.
        public: Which of `BESIDE` lie beside a bundle, for who has no key.
        licences: What may go into a bundle.
        sha256: Digest of the profile's file, "" where it came from none.
    """

    name: str
    title: str
    base: Path
    base_repository: Path | None
    recovery: bool
    models: tuple[ModelEntry, ...]
    embedding: EmbeddingEntry | None
    documents: tuple[ContentEntry, ...]
    faqs: tuple[ContentEntry, ...]
    routers: tuple[ContentEntry, ...]
    upstreams: tuple[UpstreamSpec, ...]
    ladder: LadderSpec
    limits: LimitsSpec
    selftest: SelftestEntry | None
    inventory: tuple[DependencySpec, ...]
    routes: tuple[RouteSpec, ...] = ()
    handoff: HandoffSpec | None = None
    redact: tuple[RedactSpec, ...] = ()
    vectors: tuple[VectorsEntry, ...] = ()
    images: tuple[ImageEntry, ...] = ()
    tier: TierEntry | None = None
    public: tuple[str, ...] = ()
    licences: LicenceRules = NO_RULES
    sha256: str = ""

    @property
    def case_kinds(self) -> frozenset[str]:
        """The kinds of self-test cases that there is content for, as `KnowledgeBase.kinds` of what is built of it."""
        held = {"faq": self.faqs, "documents": (*self.documents, *self.vectors), "route": self.routers}
        return frozenset(kind for kind, entries in held.items() if entries)
