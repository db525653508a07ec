"""Asks registries through skopeo: its own credentials, certificates and policy, and no daemon.

What it delivers is foreign: whoever calls checks every digest. It writes whatever a registry sends and looks at the
digest when that ends, so how much it may write is bounded here.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bundler.format.errors import PartMissing, SourceFailed
from bundler.format.oci import MANIFEST_BYTES
from bundler.format.secrets import masked
from bundler.silence import Silence

PROGRAM = "skopeo"
ASK_S = 120
# Of a transfer: as long as something comes, it may take what it takes.
STALL_S = 300.0
_LOOK_S = 0.2
_LOOPBACK = re.compile(r"(127(\.[0-9]{1,3}){3}|localhost|\[::1\])(:[0-9]+)?")
_ABSENT = re.compile(r"manifest unknown|name unknown|not found|status code 404|status 404", re.IGNORECASE)
_CLOSED = re.compile(r"unauthorized|authentication required|denied|forbidden|status 40[13]", re.IGNORECASE)
_WHERE = re.compile(r'^(Error parsing image name "[^"]*": |initializing source \S+: )')  # said by us already
_TOO_LONG = re.compile(r"SIGXFSZ|file too large", re.IGNORECASE)
_SAID = re.compile(r'level=fatal msg="(.*)"', re.DOTALL)


class Absent(Exception):
    """The registry says that there is no such tag or digest."""


class Closed(SourceFailed):
    """The registry does not let us see it; some say so of what is not there."""


@dataclass(frozen=True)
class _Bounds:
    """What a transfer may write: the longest file, and all files that are under way; in bytes."""

    file: int
    under_way: int

    def impose(self, pid: int) -> None:
        """Has the system hold every file of a process that has just begun; it asks the registry before it writes."""
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (self.file, self.file))

    def crossed(self, work: Path) -> bool:
        """Whether more is under way than could be; not what is whole, where another build may put its own."""
        return _filled(work) > self.under_way


@dataclass(frozen=True)
class Skopeo:
    """Talks about one repository of a registry.

    Attributes:
        name: HOST[:PORT]/PATH.
        stall_s: How long a transfer may stand still.
        told: Hears that the registry says nothing.
    """

    name: str
    stall_s: float = STALL_S
    told: Callable[[str], None] = lambda _: None

    def raw(self, reference: str) -> bytes:
        """Returns a manifest or an index as the registry has it.

        Args:
            reference: ":TAG" or "@sha256:...".

        Raises:
            Absent: There is none.
            Closed: The registry does not let us.
            SourceFailed: It cannot be asked.
            PartMissing: skopeo is not installed.
        """
        return self._ask(reference, "--raw")

    def config(self, reference: str) -> bytes:
        """Returns the config of an image as the registry has it; raises as `raw`."""
        return self._ask(reference, "--config", "--raw")

    def copy(
        self,
        digest: str,
        blobs: Path,
        work: Path,
        sizes: Sequence[int],
        *,
        keeps: bool,
        on_bytes: Callable[[int], None],
    ) -> None:
        """Fetches the blobs of a manifest; those that lie there already are not fetched again.

        Args:
            digest: Of the manifest.
            blobs: The folder in which they get their names, `sha256/HEX`.
            work: A new folder of the same file system, for what is under way.
            sizes: Of all blobs that may come, in bytes, as the manifest says them.
            keeps: Whether the manifest can be kept as it is, which those of Docker cannot.
            on_bytes: Hears what has come.

        Raises:
            SourceFailed: It did not come, or more than was declared; what had come whole is there.
        """
        bounds = _Bounds(max(MANIFEST_BYTES, *sizes), MANIFEST_BYTES + sum(sizes))
        options = ["--dest-shared-blob-dir", str(blobs), "--dest-oci-accept-uncompressed-layers", "--remove-signatures"]
        options += ["--preserve-digests"] if keeps else ["--format", "oci"]
        words = ["copy", "--quiet", *options, f"--src-tls-verify={self._tls}", f"docker://{self.name}@{digest}"]
        before = _filled(blobs, work)
        with tempfile.TemporaryFile() as said:
            process = self._start([*words, f"oci:{work}:x"], said)
            try:
                bounds.impose(process.pid)
                self._follow(process, lambda: _filled(blobs, work) - before, on_bytes, lambda: bounds.crossed(work))
            finally:
                process.kill()
                process.wait()
            said.seek(0)
            words_said = said.read(8_192).decode(errors="replace")
            if process.returncode != 0 and _TOO_LONG.search(words_said):
                raise self._too_much()
            if process.returncode != 0:
                raise self._failed(f"@{digest}", words_said, process.returncode)

    @property
    def _tls(self) -> str:
        """Whether certificates are checked; on loopback there is no wire to listen on, and registries speak HTTP."""
        return "false" if _LOOPBACK.fullmatch(self.name.partition("/")[0]) else "true"

    def _ask(self, reference: str, *options: str) -> bytes:
        words = ["inspect", *options, f"--tls-verify={self._tls}", f"docker://{self.name}{reference}"]
        with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as answer:
            process = self._start(words, said, answer)
            host = self.name.partition("/")[0]
            try:
                with Silence(host, f"{ASK_S} s", self.told):
                    code = process.wait(ASK_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                fact = f"registry:{self.name}{reference}: no answer within {ASK_S} s"
                raise SourceFailed(fact, "see whether the registry is reached from here") from None
            said.seek(0)
            answer.seek(0)
            data = answer.read(MANIFEST_BYTES + 1)
            if code != 0:
                raise self._failed(reference, said.read(8_192).decode(errors="replace"), code)
        if len(data) > MANIFEST_BYTES:
            raise SourceFailed(f"registry:{self.name}{reference} is longer than {MANIFEST_BYTES} bytes")
        return data

    def _start(self, words: Sequence[str], said: IO[bytes], answer: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
        program = shutil.which(PROGRAM)
        if program is None:
            raise PartMissing("registry: sources need skopeo, which is not installed", f"apt-get install {PROGRAM}")
        return subprocess.Popen(
            [program, *words], stdin=subprocess.DEVNULL, stdout=answer or subprocess.DEVNULL, stderr=said
        )

    def _follow(
        self,
        process: subprocess.Popen[bytes],
        come: Callable[[], int],
        on_bytes: Callable[[int], None],
        too_much: Callable[[], bool],
    ) -> None:
        told, since_s = 0, time.monotonic()
        while process.poll() is None:
            time.sleep(_LOOK_S)
            if too_much():
                raise self._too_much()
            now = come()
            if now > told:
                on_bytes(now - told)
                told, since_s = now, time.monotonic()
            elif time.monotonic() - since_s > self.stall_s:
                fact = f"registry:{self.name}: nothing has come for {self.stall_s:.0f} s"
                raise SourceFailed(fact, "run it again: what has come whole is not fetched twice")
        on_bytes(max(0, come() - told))

    def _too_much(self) -> SourceFailed:
        fact = f"registry:{self.name}: it sends more than the manifest says"
        return SourceFailed(fact, "the registry is damaged, or somebody stands between")

    def _failed(self, reference: str, said: str, code: int) -> Exception:
        found = _SAID.search(said)
        plain = " ".join((found[1] if found else said).replace('\\"', '"').split())
        words = masked(_WHERE.sub("", plain))[-500:]
        fact = f"registry:{self.name}{reference}: {words or f'skopeo ended with {code}'}"
        if "policy.json" in words:
            return SourceFailed(fact, "skopeo follows /etc/containers/policy.json; a package of your system brings it")
        if _CLOSED.search(words):
            return Closed(fact, f"skopeo login {self.name.partition('/')[0]}")
        if _ABSENT.search(words):
            return Absent(fact)
        return SourceFailed(fact, "see whether the registry is reached from here, and over TLS")


def _filled(*folders: Path) -> int:
    """Returns the bytes of the files in folders that change meanwhile; what vanishes under the look is left out."""
    total = 0
    for folder in folders:
        for place, _, names in os.walk(folder):
            for name in names:
                with suppress(FileNotFoundError):
                    total += Path(place, name).lstat().st_size
    return total
