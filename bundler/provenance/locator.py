"""Sources as others write them: package URLs (ECMA-427, "purl") and web addresses. Pure."""

from __future__ import annotations

from itertools import takewhile

from packageurl import PackageURL

from bundler.format.errors import BadInput
from bundler.sources.source import UNRESOLVED, FileSource, HubSource, RegistrySource, Source, WheelSource, parse


def purl(source: Source | None, resolved: str = "") -> PackageURL | None:
    """Returns the package URL of a source; None for a file of this machine.

    Args:
        source: As the profile writes it.
        resolved: What a branch, a tag or nothing stood for.
    """
    if isinstance(source, WheelSource):
        return PackageURL("pypi", None, source.dist, source.version, None, source.member)
    if isinstance(source, HubSource):
        organisation, _, name = source.repository.partition("/")
        revision = resolved or ("" if source.revision == UNRESOLVED else source.revision)
        return PackageURL("huggingface", organisation, name, revision or None, None, _named(source.path) or None)
    if isinstance(source, RegistrySource):
        qualifiers = {"repository_url": source.name, **({"tag": source.tag} if source.tag else {})}
        name = source.name.rpartition("/")[2]
        return PackageURL("oci", None, name, resolved or source.digest or None, qualifiers, source.member or None)
    return None


def attached(source: RegistrySource, sha256: str) -> PackageURL:
    """Returns the package URL of what a registry keeps beside an artifact: a manifest of its own, by its digest."""
    name = source.name.rpartition("/")[2]
    return PackageURL("oci", None, name, f"sha256:{sha256}", {"repository_url": source.name})


def _named(path: str) -> str:
    """Returns a path up to its first glob: a subpath of a package URL names one file or folder."""
    return "/".join(takewhile(lambda part: not set(part) & set("*?["), path.split("/"))).rstrip("/")


def address(source: Source | None, resolved: str = "") -> str:
    """Returns where a person finds a source; "" for a file of this machine."""
    if isinstance(source, WheelSource):
        return f"https://pypi.org/project/{source.dist}/{source.version}/"
    if isinstance(source, HubSource):
        return f"https://huggingface.co/{source.repository}/tree/{resolved or source.revision}"
    if isinstance(source, RegistrySource):
        return f"oci://{source.name}@{resolved or source.digest}"
    return ""


def known(text: str) -> Source | None:
    """Returns a source that others can find, or None: a file of this machine, or a store of the customer's."""
    try:
        source = parse(text)
    except BadInput:
        return None
    return None if isinstance(source, FileSource) else source
