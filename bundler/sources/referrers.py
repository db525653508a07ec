"""Asks a registry what refers to a digest: signatures, attestations, SBOMs (distribution-spec 1.1, "Referrers").

skopeo has no word for it. What is listed is foreign: each manifest is fetched by its digest and must name its subject.
"""

from __future__ import annotations

import logging
import os
import re
from contextlib import closing
from functools import partial
from pathlib import Path

from bundler.format.errors import BadBundle, BadInput, SourceFailed
from bundler.format.oci import INDEX_TYPES, MANIFEST_BYTES, Descriptor, read_manifest
from bundler.patience import Patience
from bundler.registries.logins import find
from bundler.registries.reference import is_loopback
from bundler.registries.wire import Wire

_MOST, _PAGES = 256, 16
_NEXT = re.compile(r"<([^>]+)>\s*;\s*rel=\"?next\"?")
PATIENCE = Patience(tries=3, most_s=4.0, asked_most_s=30.0)


def listed(name: str, digest: str, patience: Patience = PATIENCE) -> tuple[Descriptor, ...]:
    """Returns what refers to a digest; nothing where the registry keeps no such list.

    Where it does not let us see its list, or cannot be asked without skopeo's mirrors and helpers, a warning is logged.

    Args:
        name: HOST[:PORT]/PATH.
        digest: Of an image, an artifact or an index.
        patience: With faults that may pass.

    Raises:
        BadInput: The list is none.
    """
    host, _, path = name.partition("/")
    served = "registry-1.docker.io" if host == "docker.io" else host
    origin = f"{'http' if is_loopback(host) else 'https'}://{served}"
    login = find(host, path, os.environ, Path.home())
    with closing(Wire(origin, login, (f"repository:{path}:pull",))) as wire:
        try:
            found = _pages(wire, f"/v2/{path}/referrers/{digest}", patience)
        except SourceFailed as error:
            _warn(name, error.fact)
            return ()
    unique = {item.digest: item for item in found}
    if len(unique) > _MOST:
        raise BadInput(f"{name}: {len(unique)} things refer to {digest}, at most {_MOST} are taken")
    return tuple(unique[key] for key in sorted(unique))


def _pages(wire: Wire, url: str, patience: Patience) -> list[Descriptor]:
    found: list[Descriptor] = []
    for _ in range(_PAGES):
        data, following = patience.keep("the registry", partial(_page, wire, url), "try again later")
        if not data:
            return found
        try:
            found += read_manifest(data, "the list of referrers").children
        except BadBundle as error:
            raise BadInput(error.fact) from error
        if not following:
            return found
        url = wire.resolve(url, following)
    raise BadInput(f"the list of referrers has more than {_PAGES} pages")


def _page(wire: Wire, url: str) -> tuple[bytes, str]:
    """Returns one page and where the next is; b"" where the registry knows no such lists."""
    with wire.send("GET", url, {"Accept": INDEX_TYPES[0]}, follow=True) as answer:
        if answer.status in (400, 404, 405, 501):
            return b"", ""
        if answer.status != 200:
            raise SourceFailed(f"the registry answers {answer.status} {answer.code()}".rstrip())
        following = _NEXT.search(answer.headers.get("Link", ""))
        return answer.body(MANIFEST_BYTES), following[1] if following else ""


def _warn(name: str, fact: str) -> None:
    told = "%s: what refers to it is not known (%s): signatures are looked for by their tags alone"
    logging.getLogger(__name__).warning(told, name, fact)
