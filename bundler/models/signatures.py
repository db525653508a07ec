"""Holds fetched models to the signatures of those whom the profile names. Fails closed: no or a wrong one refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from bundler.confine import run_confined
from bundler.format.errors import BadInput, SourceFailed
from bundler.profile.model import SignerEntry
from bundler.sources.file import hashed
from bundler.sources.source import Fetched, FileSource, HubSource, RegistrySource, Source, WheelSource, parse

DEFAULT = "model.sig"
_WHOLE = "."  # how model signing calls the file where the model is one


@dataclass
class Signatures:
    """Checks the files of models; each signature is fetched and verified once.

    Attributes:
        fetch: Delivers a source.
        local: Returns the path of a `file:` source of the profile.
    """

    fetch: Callable[[str], Fetched]
    local: Callable[[str], Path]
    _known: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def check(self, signer: SignerEntry, model: str, fetched: Fetched) -> tuple[Fetched, str]:
        """Returns the file with its digest, and who signed it.

        Args:
            signer: Who must have.
            model: The source of the whole model, a folder or the file itself.
            fetched: A file of it.

        Raises:
            BadInput: The signature is missing, of somebody else, or does not cover the file as it is.
        """
        fetched = hashed(fetched)
        source = parse(fetched.source)
        place = signer.signature or default_place(model, fetched.resolved)
        told = self._verified(place, signer.key)
        files = fetched.made_of or (None,)
        for part in files:
            path, digest = (part.path, part.sha256) if part is not None else ("", fetched.sha256)
            _require(told["files"], names_of(source, parse(place), path), digest, fetched.source)
        return fetched, str(told["signer"])

    def _verified(self, place: str, key: str) -> dict[str, Any]:
        if (place, key) not in self._known:
            try:
                signature = self.fetch(place)
            except (BadInput, SourceFailed) as error:
                raise BadInput(
                    f"signer_key is named, and there is no signature {place}: {error.fact}",
                    "name it with `signature`, or leave signer_key out to take the model unsigned",
                ) from error
            inputs = {"signature": signature.path, "key": self.local(key)}
            try:
                found = run_confined("bundler.capture.model_signature:verify", {}, inputs=inputs)
            except BadInput as error:
                raise BadInput(f"{place}: {error.fact}", error.hint) from error
            self._known[place, key] = found
        return self._known[place, key]


def default_place(model: str, resolved: str) -> str:
    """Returns where the signature of a model lies unless the profile says so.

    It is `model.sig` at the root of a hub's repository, in a model's folder, or beside its one file.
    """
    folder, _, _ = model.rpartition("/")
    source = parse(f"{model}{DEFAULT}" if model.endswith("/") else f"{folder}/{DEFAULT}" if folder else model)
    if isinstance(source, HubSource):
        return str(replace(source, revision=resolved or source.revision, path=DEFAULT))
    return str(source) if folder else str(FileSource(DEFAULT))


def names_of(source: Source, signature: Source, part: str) -> tuple[str, ...]:
    """Returns under which names a signature may list a file: as its path from where the signature lies.

    Args:
        source: The file's.
        signature: The signature's.
        part: A file of the source's repository, where the source was several; else "".
    """
    path = PurePosixPath(part or _path(source))
    if type(source) is type(signature):
        folder = PurePosixPath(_path(signature)).parent
        return (path.relative_to(folder).as_posix(),) if path.is_relative_to(folder) else ()
    if isinstance(source, HubSource):
        return (path.as_posix(),)
    return (path.name,)


def _path(source: Source) -> str:
    if isinstance(source, WheelSource):
        return source.member
    return source.member if isinstance(source, RegistrySource) else source.path


def _require(files: dict[str, str], names: tuple[str, ...], digest: str, source: str) -> None:
    if list(files) == [_WHOLE]:
        names = (_WHOLE,)
    listed = next((files[name] for name in names if name in files), None)
    if listed is None:
        raise BadInput(f"{source}: the signature does not cover it (looked for {', '.join(names) or 'its name'})")
    if listed != digest:
        raise BadInput(f"{source}: expected SHA-256 {listed} by the signature, found {digest}", "it was changed since")
