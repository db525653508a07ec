"""The bill of materials: CycloneDX 1.6, models as components with a model card. Pure.

The library has no model cards yet, so that object is added to its JSON; tests hold the whole to the official schema.
Nothing in it depends on when or where it was made.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType, Pedigree
from cyclonedx.model.license import License
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from bundler.format.manifest import Descriptor
from bundler.lock import PinnedPart
from bundler.plan import Found
from bundler.provenance.licences import another_text
from bundler.provenance.locator import address, known, purl
from bundler.provenance.material import Material, Part, Wheel, source_of

NAMESPACE = uuid.UUID("3f0f6d0e-5c0a-5d4e-9b6c-6c696665626f")
MODELS = ("gguf", "onnx")
# Everything else is the customer's own content, or of a kind or in a folder that came later and is taken for such. A
# kind alone does not tell: what is noted of a vector store is a "config" in the customer's own folder.
_OPEN = ("gguf", "onnx", "tokenizer", "config", "licence", "image", "attached")
_OPEN_FOLDERS = ("models", "embedding", "licences", "images", "attached")
_TYPES = dict.fromkeys(MODELS, ComponentType.MACHINE_LEARNING_MODEL)
_TASKS = {"model": "text-generation", "embedding": "feature-extraction"}
_LICENCES = LicenseFactory()


def full(material: Material) -> bytes:
    """Returns the SBOM that lies inside the bundle."""
    components = [_component(part, material.sources) for part in material.parts if _counts(part)]
    serial = uuid.uuid5(NAMESPACE, material.content_sha256)
    digest = Property(name="lifeboat:content-sha256", value=material.content_sha256)
    root = _root(material.profile, material.content_sha256[:16], [digest])
    return _written(material, root, components, serial)


def public(material: Material, descriptor: Descriptor) -> bytes:
    """Returns the SBOM for who has no key: models and software, and of the customer's content that there is some.

    Digests of content are left out as well as names: a digest tells who guesses right. So is the name of the profile,
    which may be the customer's.
    """
    shown = [part for part in material.parts if _is_open(part)]
    components = [_component(part, material.sources) for part in shown if _counts(part)]
    own = sorted({part.path.split("/")[0] for part in material.parts if not _is_open(part)})
    components += [Component(name=name, type=ComponentType.DATA, bom_ref=f"content/{name}") for name in own]
    return _written(material, _root(descriptor.bundle, "", []), components, uuid.uuid5(NAMESPACE, descriptor.bundle))


def _root(name: str, version: str, properties: list[Property]) -> Component:
    return Component(
        name=name, type=ComponentType.APPLICATION, bom_ref="bundle", version=version or None, properties=properties
    )


def _written(material: Material, root: Component, components: list[Component], serial: uuid.UUID) -> bytes:
    tool = Component(name="lifeboat", type=ComponentType.APPLICATION, bom_ref="builder")
    bom = Bom(
        components=[*components, *(_wheel(wheel) for wheel in material.software)],
        serial_number=serial,
        metadata=BomMetaData(component=root, tools=ToolRepository(components=[tool])),
    )
    bom.register_dependency(root, bom.components)
    value = json.loads(JsonV1Dot6(bom).output_as_string())
    del value["metadata"]["timestamp"]  # of the making of this document; bundle.json has the signed time
    cards = {f"asset/{part.path}": _card(part, source_of(part, material.sources)) for part in material.parts}
    for component in value.get("components", ()):  # a profile of upstreams alone has none
        if component["type"] == "machine-learning-model":
            component["modelCard"] = cards[component["bom-ref"]]
        if component["type"] == "data":
            component["data"] = [{"type": "dataset", "name": component["name"]}]
    return json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False).encode() + b"\n"


def _is_open(part: Part) -> bool:
    return part.kind in _OPEN and part.path.split("/")[0] in _OPEN_FOLDERS


def _counts(part: Part) -> bool:
    """Of the files of an image one stands for all; what is attached to a model is told with the model."""
    return part.kind != "attached" and (part.kind != "image" or part.path.endswith("/index.json"))


def _component(part: Part, sources: Sequence[Found]) -> Component:
    return _image(part, sources) if part.kind == "image" else _asset(part, sources)


def _image(part: Part, sources: Sequence[Found]) -> Component:
    found = source_of(part, sources)
    link = _link(found)
    prefix = part.path.removesuffix("/index.json")
    return Component(
        name=prefix.rpartition("/")[2],
        type=ComponentType.CONTAINER,
        bom_ref=f"asset/{prefix}",
        version=link.version if link is not None else None,
        licenses=_licences([part.licence]),
        purl=link,
        external_references=_references([_where(found)]),
    )


def _asset(part: Part, sources: Sequence[Found]) -> Component:
    found = source_of(part, sources)
    link = _link(found)
    as_it_came = found is not None and bool(part.sha256) and part.sha256 == found.sha256
    return Component(
        name=_name(part),
        type=_TYPES.get(part.kind, ComponentType.FILE if part.kind in _OPEN else ComponentType.DATA),
        bom_ref=f"asset/{part.path}",
        version=link.version if link is not None else None,
        hashes=_hashes(part.sha256),
        licenses=_licences([part.licence]),
        purl=link if as_it_came else None,
        external_references=_references([_where(found)]),
        pedigree=None if as_it_came or found is None else _ancestor(found, link),
        properties=_properties(part, found),
    )


def _link(found: Found | None) -> PackageURL | None:
    return purl(known(found.source), found.resolved) if found is not None else None


def _where(found: Found | None) -> str:
    return address(known(found.source), found.resolved) if found is not None else ""


def _properties(part: Part, found: Found | None) -> list[Property]:
    stated = {
        "lifeboat:path": part.path,
        "lifeboat:kind": part.kind,
        "lifeboat:length-bytes": str(part.length_bytes),
        "lifeboat:chunks-sha256": part.chunks_sha256,
    }
    if found is not None:
        stated |= {"lifeboat:licence-of-the-source": found.declared, "lifeboat:signature": found.signature}
        stated |= {"lifeboat:licence-of-the-text": another_text(found)}
        stated |= {f"lifeboat:attached:{item.path}": item.sha256 for item in _attached(found)}
    return [Property(name=name, value=value) for name, value in stated.items() if value]


def _attached(found: Found) -> tuple[PinnedPart, ...]:
    """What a registry keeps about a model beside it."""
    return found.parts if found.source.startswith("registry:") else ()


def _ancestor(found: Found, link: PackageURL | None) -> Pedigree | None:
    """What an asset was converted or merged from."""
    if link is None:
        return None
    files = () if _attached(found) else found.parts
    origin = Component(
        name=link.name,
        type=ComponentType.MACHINE_LEARNING_MODEL if found.part in _TASKS else ComponentType.FILE,
        bom_ref=f"source/{link}",
        version=link.version,
        purl=link,
        hashes=_hashes(found.sha256),
        licenses=_licences([found.declared]),
        properties=[Property(name=f"lifeboat:file:{part.path}", value=part.sha256) for part in files],
    )
    return Pedigree(ancestors=[origin])


def _wheel(wheel: Wheel) -> Component:
    link = PackageURL("pypi", None, wheel.name, wheel.version) if wheel.version else None
    return Component(
        name=wheel.name,
        type=ComponentType.LIBRARY,
        bom_ref=f"software/{wheel.name}@{wheel.version}#{wheel.sha256[:8]}",  # one name may have a wheel a platform
        version=wheel.version or None,
        purl=link,
        hashes=_hashes(wheel.sha256),
    )


def _card(part: Part, found: Found | None) -> dict[str, Any]:
    """A CycloneDX modelCard: what the file says of itself, and what the profile asks of it."""
    facts = dict(found.facts) if found is not None else {}
    is_chat = part.kind == "gguf"
    parameters: dict[str, Any] = {
        "task": facts.pop("task", _TASKS["model" if is_chat else "embedding"]),
        "inputs": [{"format": "text"}],
        "outputs": [{"format": "text" if is_chat else "vector"}],
    }
    if family := facts.pop("architecture", ""):
        parameters |= {"architectureFamily": family}
    properties = [{"name": f"lifeboat:{name}", "value": value} for name, value in sorted(facts.items())]
    return {"modelParameters": parameters, **({"properties": properties} if properties else {})}


def _name(part: Part) -> str:
    last = part.path.rpartition("/")[2]
    return last.rpartition(".")[0] if part.path.startswith("models/") else part.path


def _hashes(sha256: str) -> list[HashType]:
    return [HashType(alg=HashAlgorithm.SHA_256, content=sha256)] if sha256 else []


def _licences(texts: Iterable[str]) -> list[License]:
    """SPDX identifiers and expressions as such, anything else by its name."""
    return [_LICENCES.make_from_string(text) for text in texts if text]


def _references(addresses: Iterable[str]) -> list[ExternalReference]:
    kind = ExternalReferenceType.DISTRIBUTION
    return [ExternalReference(type=kind, url=XsUri(text)) for text in addresses if text]
