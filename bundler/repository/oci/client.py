"""A registry by the distribution spec, as far as files need it: blobs and manifests, looked for, sent and fetched.

https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md. A blob goes up whole, by POST and PUT, which
every registry takes; an upload that broke off begins anew, since registries of wide use drop such a one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from io import RawIOBase
from typing import IO, TypeVar, cast
from urllib.parse import quote

from bundler.format.errors import BadBundle, BadInput, SourceFailed
from bundler.patience import Passing, Patience
from bundler.registries.reference import Reference
from bundler.registries.wire import CONNECT_S, LOGIN_HINT, READ_S, STORED_S, Answer, Wire
from bundler.repository.oci.artifact import MANIFEST_BYTES, MANIFEST_TYPE, Blob
from bundler.silence import ANSWER_S, BYTES_S, Silence, once

_STORED = (201, 200, 202, 204)  # the first by the spec, the others by registries
_WHO, _LATER = "the registry", "run the same command again later: it goes on where it was"
_STEADY_BYTES = 1 << 20  # a connection that brought so much was a good one: its end begins the count of faults anew
T = TypeVar("T")


class Client:
    """One repository of one registry.

    Args:
        reference: Of the artifact.
        wire: To its registry.
        patience: With faults that may pass.
    """

    def __init__(self, reference: Reference, wire: Wire, patience: Patience) -> None:
        self.reference, self._wire, self._patience = reference, wire, patience
        self._told = once(patience.told)
        self._base = f"/v2/{reference.name}"

    def manifest(self) -> tuple[bytes, str] | None:
        """Returns the manifest that the reference names, and its digest; None where there is none.

        Raises:
            SourceFailed: The registry does not give it.
            BadBundle: It gives another one than the digest names.
        """
        return self._kept(lambda: self._manifest(self.reference.manifest))

    def put_manifest(self, data: bytes) -> str:
        """Stores a manifest under the reference's tag, reads it back, and returns its digest.

        Raises:
            SourceFailed: The registry refuses it.
            BadBundle: It returns another one.
        """
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"

        def put() -> None:
            headers = {"Content-Type": MANIFEST_TYPE, "Content-Length": str(len(data))}
            path = f"{self._base}/manifests/{self.reference.tag}"
            with self._silence(STORED_S), self._wire.send("PUT", path, headers, data) as answer:
                if answer.status not in _STORED:
                    raise self._refused(answer, "the manifest")

        self._kept(put)
        if self._kept(lambda: self._manifest(digest)) != (data, digest):
            raise BadBundle("the registry does not return the manifest that was sent to it")
        return digest

    def has(self, blob: Blob) -> bool:
        """Whether the registry holds a blob, at its right length."""
        return self._kept(lambda: self._has(blob))

    def mount(self, blob: Blob, other: str) -> bool:
        """Takes a blob over from another repository of the registry; False where it is not there."""
        query = f"?mount={quote(blob.digest)}&from={quote(other, safe='')}"

        def ask() -> bool:
            with self._begin(query) as answer:
                return answer.status == 201

        return self._kept(ask)

    def put(self, blob: Blob, body: Callable[[], AbstractContextManager[IO[bytes]]]) -> None:
        """Sends a blob.

        Args:
            blob: Its digest and length.
            body: Opens its bytes; called for every try.

        Raises:
            SourceFailed: The registry refuses it.
        """
        first = True

        def send() -> None:
            nonlocal first
            # A try whose answer was lost may have done its work.
            if first or not self._has(blob):
                first = False
                self._put(blob, body)

        self._kept(send)

    def read(self, blob: Blob, start: int = 0) -> Iterator[bytes]:
        """Yields the bytes of a blob from `start` on; a connection that breaks is made anew where it broke.

        Raises:
            SourceFailed: The registry does not give it.
            BadBundle: It has another length.
        """
        at, failures, steady = start, 0, start
        while at < blob.length_bytes:
            try:
                for block in self._range(blob, at):
                    at += len(block)
                    yield block
            except Passing as fault:
                failures = 1 if at - steady >= _STEADY_BYTES else failures + 1
                steady = at
                self._patience.wait(_WHO, failures, fault, _LATER)

    def close(self) -> None:
        """Ends the connections."""
        self._wire.close()

    def _kept(self, act: Callable[[], T]) -> T:
        return self._patience.keep(_WHO, act, _LATER)

    def _manifest(self, wanted: str) -> tuple[bytes, str] | None:
        # An index would be given to who does not say that only a manifest will do.
        path, headers = f"{self._base}/manifests/{wanted}", {"Accept": MANIFEST_TYPE}
        with self._silence(READ_S), self._wire.send("GET", path, headers, follow=True) as answer:
            if answer.status == 404:
                return None
            if answer.status != 200:
                raise self._refused(answer, f"the manifest {wanted}")
            data = answer.body(MANIFEST_BYTES)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if wanted.startswith("sha256:") and digest != wanted:
            raise BadBundle(f"the registry gives the manifest {digest} for {wanted}")
        return data, digest

    def _has(self, blob: Blob) -> bool:
        path = f"{self._base}/blobs/{blob.digest}"
        with self._silence(READ_S), self._wire.send("HEAD", path, follow=True) as answer:
            if answer.status in (401, 403):
                raise self._refused(answer, blob.digest)
            length = str(blob.length_bytes)
            return answer.status == 200 and answer.headers.get("Content-Length", length) == length

    def _put(self, blob: Blob, body: Callable[[], AbstractContextManager[IO[bytes]]]) -> None:
        with self._begin("") as answer:
            place = self._wire.resolve(answer.url, answer.headers.get("Location", ""))
        place += f"{'&' if '?' in place else '?'}digest={quote(blob.digest)}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.length_bytes)}
        with body() as stream, self._silence(STORED_S, BYTES_S) as silence:
            sent = cast("IO[bytes]", _Sent(stream, silence))
            self._store(place, headers, sent, blob)

    def _store(self, place: str, headers: Mapping[str, str], body: IO[bytes], blob: Blob) -> None:
        with self._wire.send("PUT", place, headers, body) as answer:
            if answer.status not in _STORED:
                raise self._refused(answer, blob.digest)

    @contextmanager
    def _begin(self, query: str) -> Iterator[Answer]:
        path, headers = f"{self._base}/blobs/uploads/{query}", {"Content-Length": "0"}
        with self._silence(READ_S), self._wire.send("POST", path, headers) as answer:
            if answer.status not in (201, 202):
                raise self._refused(answer, "an upload")
            yield answer

    def _range(self, blob: Blob, at: int) -> Iterator[bytes]:
        """Yields what one answer brings of a blob from `at` on; raises Passing where it ends early."""
        headers = {"Range": f"bytes={at}-{blob.length_bytes - 1}"} if at else {}
        with ExitStack() as stack:
            with self._silence(READ_S):
                path = f"{self._base}/blobs/{blob.digest}"
                answer = stack.enter_context(self._wire.send("GET", path, headers, follow=True))
            if answer.status not in (200, 206):
                raise self._refused(answer, blob.digest)
            skipped = _begins_at(answer)
            if skipped > at:
                raise SourceFailed(f"the registry answers with bytes from {skipped} on where {at} was asked for")
            silence = stack.enter_context(self._silence(READ_S, BYTES_S))
            for block in answer.blocks(silence.heard):
                fresh = block[max(0, at - skipped) :]  # a registry may ignore a range
                skipped += len(block)
                if len(fresh) > blob.length_bytes - at:
                    raise BadBundle(f"the registry returns more than the {blob.length_bytes} bytes of {blob.digest}")
                at += len(fresh)
                with silence.apart():
                    yield fresh
            if at < blob.length_bytes:
                raise Passing(f"an answer ended after {at} of {blob.length_bytes} bytes")

    def _silence(self, answer_s: float, after_s: float = ANSWER_S) -> Silence:
        """Returns what tells in the length of a block that the registry says nothing."""
        given = f"{CONNECT_S:.0f} s to connect and {answer_s:.0f} s to answer, {self._patience.tries} times in a row"
        return Silence(self.reference.host, given, self._told, after_s)

    def _refused(self, answer: Answer, what: str) -> Exception:
        fact = f"{self.reference.host} answers {answer.status} {answer.code()}".rstrip() + f" for {what}"
        if answer.status in (401, 403):
            return SourceFailed(fact, LOGIN_HINT)
        if answer.status == 404:
            return SourceFailed(fact, "it was removed there: let the MSP push again")
        if answer.status == 413:
            return BadInput(fact, "the registry, or a gateway before it, wants smaller layers: --layer-size")
        return SourceFailed(fact)


class _Sent(RawIOBase):
    """The bytes of a body, whose going is heard of."""

    def __init__(self, body: IO[bytes], silence: Silence) -> None:
        self._body, self._silence = body, silence

    def read(self, size: int = -1, /) -> bytes:
        self._silence.heard()
        return self._body.read(size)


def _begins_at(answer: Answer) -> int:
    """Returns where the body of an answer begins in the blob."""
    if answer.status == 200:
        return 0
    match = re.match(r"bytes ([0-9]{1,18})-", answer.headers.get("Content-Range", ""))
    if match is None:
        raise SourceFailed("the registry answers with a part and does not say which")
    return int(match[1])
