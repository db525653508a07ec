"""Opens a bundle whose descriptor is already trusted, and checks all of it.

Order of trust: the descriptor is a signed target; it names the digest of the index, which is hashed whole before it is
opened; the index names the digest of every chunk, which is checked before a byte of it is used.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bundler.files import read_limited
from bundler.format import age, paths
from bundler.format.age.errors import AgeError
from bundler.format.errors import BadBundle, WrongKey
from bundler.format.index import Chunk, Index, decode_index
from bundler.format.limits import INDEX_BYTES
from bundler.format.manifest import Descriptor
from bundler.format.padding import unpad_document
from bundler.format.reader import AssetReader, Volumes
from bundler.format.service import Service


@dataclass(frozen=True)
class Bundle:
    """An open bundle: its facts, and its assets by path. Close it, or use it as a context manager."""

    descriptor: Descriptor
    index: Index
    volumes: Volumes

    def __enter__(self) -> Bundle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.volumes.close()

    def reader(self, path: str) -> AssetReader:
        return AssetReader(self.index.asset(path), self.volumes)

    def read(self, path: str) -> bytes:
        """Returns one whole asset; every chunk is checked, and the whole where its digest is known."""
        return self.reader(path).read_all()


def open_bundle(root: Path, descriptor: Descriptor, identities: Mapping[str, str]) -> Bundle:
    """Opens the index of a bundle.

    Args:
        root: Folder of the repository, on the medium or in the store.
        descriptor: Verified against the signed target.
        identities: Secret age identities by recipient.

    Raises:
        WrongKey: No identity for this bundle.
        BadBundle: The index is not what was signed.
    """
    secret = identities.get(descriptor.recipient)
    if secret is None:
        raise WrongKey(f"no key of this site opens bundle {descriptor.bundle}", "the builder must authorise this site")
    sealed = read_limited(paths.inside(root, descriptor.index.path), INDEX_BYTES)
    if hashlib.sha256(sealed).hexdigest() != descriptor.index.sha256:
        raise BadBundle(f"{descriptor.index.path} is not what was signed")
    try:
        padded = age.decrypt(sealed, [age.parse_identity(secret)], limit_bytes=INDEX_BYTES)
    except AgeError as error:
        raise BadBundle(f"{descriptor.index.path} does not open: {error}") from error
    index = decode_index(unpad_document(padded, "the index"), volumes=len(descriptor.volumes))
    stated = (descriptor.format, descriptor.repository, descriptor.bundle)
    if (index.format, index.repository, index.bundle) != stated:
        raise BadBundle(f"the index is of bundle {index.bundle}, the descriptor of {descriptor.bundle}")
    missing = sorted(set(_needed(index.service)) - {asset.path for asset in index.assets})
    if missing:
        raise BadBundle(f"the index names assets that the bundle does not hold: {', '.join(missing)}")
    return Bundle(descriptor, index, Volumes(root, descriptor, identities))


def check_chunks(bundle: Bundle, on_bytes: Callable[[int], None], threads: int = 2) -> int:
    """Decrypts and checks every chunk once, in parallel; returns the bytes checked.

    Raises:
        BadBundle: The first chunk found that is not what was signed, named with its volume.
    """
    chunks = sorted({chunk for asset in bundle.index.assets for chunk in asset.chunks}, key=_place)
    shares = [chunks[number::threads] for number in range(threads)]

    stopped = threading.Event()

    def check(share: Iterable[Chunk]) -> int:
        try:
            return check_share(share)
        except BaseException:
            stopped.set()
            raise

    def check_share(share: Iterable[Chunk]) -> int:
        buffer, total = bytearray(), 0
        for chunk in share:
            if stopped.is_set():  # another thread found a bad chunk: what is left does not matter
                break
            if len(buffer) < chunk.length:
                buffer = bytearray(chunk.length)
            bundle.volumes.read_chunk(chunk, memoryview(buffer)[: chunk.length])
            total += chunk.length
            on_bytes(chunk.length)
        return total

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(check, shares))


def _place(chunk: Chunk) -> tuple[int, int]:
    return (chunk.volume, chunk.offset)


def _needed(service: Service) -> Iterable[str]:
    yield from (model.asset for model in service.models)
    if service.embedding is not None:
        yield from (service.embedding.asset, service.embedding.tokenizer)
    if service.selftest is not None:
        yield service.selftest.asset
