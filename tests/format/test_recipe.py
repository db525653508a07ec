"""The emergency recipe of the specification, run as it stands with stock tools, on whole and on forged repositories."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bundler.format.service import LadderSpec, LimitsSpec, Service
from bundler.repository.keyring import Keyring, Msp
from bundler.repository.publish import Publisher
from bundler.repository.roots import Change, Roots, changed_root, first_root
from bundler.repository.rotation import PolicyChange, changed_policy, take_root
from bundler.repository.sites import add_site
from bundler.repository.survey import Captured
from bundler.repository.write import BundleWriter
from bundler.terminal import Terminal

TESTS = Path(__file__).parent.parent
SPEC = TESTS.parent / "bundler" / "format" / "SPEC.md"
SAMPLE = TESTS / "releases" / "1"
NOW, QUICK = datetime(2026, 11, 21, 12, tzinfo=UTC), 10
SERVICE = Service(
    "demo", "Demo", (), None, (), (), (), (), LadderSpec((), (), (), "", "", ""), LimitsSpec(1, 1, 1), None, ()
)

pytestmark = pytest.mark.skipif(
    not all(shutil.which(tool) for tool in ("age", "jq", "openssl", "xxd")), reason="needs age, jq, openssl and xxd"
)


@dataclass
class Place:
    """A repository, what stands on the card, and where the recipe works and writes."""

    folder: Path
    root: str
    code: str
    site: str
    scratch: Path

    def open(self, *words: str) -> tuple[int, str]:
        """Runs the recipe with the code typed at a terminal; returns exit code and what it printed."""
        match = re.search(r"```sh\n(.*?)```", SPEC.read_text(), re.DOTALL)
        assert match is not None
        (self.scratch / "recipe.sh").write_text(match[1])
        work = self.scratch / "work"
        work.mkdir(exist_ok=True)
        command = ["sh", str(self.scratch / "recipe.sh"), str(self.folder), self.root, *words]
        code, said = at_a_terminal(command, self.code, {**os.environ, "SITE": self.site, "TMPDIR": str(work)})
        assert list(work.iterdir()) == [], "keys or plaintext were left behind"
        return code, said


def at_a_terminal(command: list[str], typed: str, environment: dict[str, str]) -> tuple[int, str]:
    child, terminal = pty.fork()
    if child == 0:
        os.execvpe(command[0], command, environment)
    said = b""
    try:
        while data := os.read(terminal, 4096):
            said += data
            if b"passphrase" in data:
                os.write(terminal, f"{typed}\n".encode())
    except OSError:  # the child has closed its terminal
        pass
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), said.decode(errors="replace")


@pytest.fixture
def sample(tmp_path: Path) -> Place:
    facts = json.loads((SAMPLE / "expected.json").read_text())
    shutil.copytree(SAMPLE / "repository", tmp_path / "repository")
    return Place(tmp_path / "repository", facts["root_sha256"], facts["site_code"], "sample", tmp_path)


@pytest.fixture
def lived_in(tmp_path: Path) -> Place:
    """A repository after some years: two digits of versions, every key replaced once, its last bundle revoked."""
    ring = Keyring(tmp_path / "home", lambda: "correct horse")
    ring.create(Msp("Northquay", "ab" * 16), QUICK)
    roots = Roots(ring.home)
    roots.add(first_root(ring, NOW), NOW)
    publisher = Publisher(tmp_path / "repository", ring, NOW)
    repository = publisher.create().repository
    site = add_site(publisher, ring, repository, "bristol", work_factor_log2=QUICK)
    writer = BundleWriter(publisher, ring, Terminal(quiet=True), 1 << 20)
    for text in (b"first answer", b"second answer", b"a wrong answer"):
        (tmp_path / "faq").write_bytes(text)
        captured = (Captured("faq/entries.jsonl", tmp_path / "faq", "faq", "", "file:faq", (), 1 << 20),)
        written = writer.write("demo", captured, SERVICE, NOW)
    for duty in ("refresh", "release", "root"):
        change = Change(duty, [ring.new_key(f"{duty}-2", QUICK)], [ring.public(duty).keyid])
        take_root(changed_root(roots.newest(), [change], NOW), ring, roots, None, NOW)
        publisher.resign()
    publisher.change_policy(changed_policy(publisher.policy(), PolicyChange(revoke=(written.descriptor.bundle,))))
    for _ in range(8):
        publisher.resign()
    assert len(list(publisher.folder.glob("metadata/??.content.json"))) >= 3
    root = hashlib.sha256(publisher.first_root()).hexdigest()
    return Place(publisher.folder, root, site.code, "bristol", tmp_path)


def test_it_opens_the_released_sample(sample: Place) -> None:
    """Without an asset it lists them; with one it writes exactly its bytes."""
    code, said = sample.open()
    assert code == 0, said
    assert "models/tiny.gguf" in said
    out = sample.scratch / "out"
    code, said = sample.open("models/tiny.gguf", str(out))
    assert code == 0, said
    expected = json.loads((SAMPLE / "expected.json").read_text())["newest"]["models/tiny.gguf"]
    assert hashlib.sha256(out.read_bytes()).hexdigest() == expected


def test_it_opens_a_repository_that_was_lived_in(lived_in: Place) -> None:
    """Version 10 comes after 9, rotated keys are followed from the card's root, and a revoked bundle is passed over."""
    out = lived_in.scratch / "out"
    code, said = lived_in.open("faq/entries.jsonl", str(out))
    assert code == 0, said
    assert out.read_bytes() == b"second answer"


def newest(folder: Path, role: str) -> Path:
    return max(folder.glob(f"metadata/*.{role}.json"), key=lambda path: int(path.name.split(".")[0]))


def zero_signatures(folder: Path) -> None:
    path = newest(folder, "root")
    value = json.loads(path.read_text())
    for signature in value["signatures"]:
        signature["sig"] = "00" * 64
    path.write_text(json.dumps(value))


def foreign_root(folder: Path) -> None:
    """A stranger's root of the next version, which signs itself."""
    ring = Keyring(folder.parent / "stranger", lambda: "a stranger")
    ring.create(Msp("Northquay", "ab" * 16), QUICK)
    metadata = changed_root(Roots(folder.parent / "home").newest(), [], NOW)
    for role in metadata.signed.roles.values():
        role.keyids.clear()
    for duty, roles in (("root", ["root"]), ("release", ["targets"]), ("refresh", ["snapshot", "timestamp"])):
        for role_name in roles:
            metadata.signed.add_key(ring.public(duty), role_name)
    metadata.sign(ring.signer("root"))
    (folder / "metadata" / f"{metadata.signed.version}.root.json").write_bytes(metadata.to_bytes())


def change_text(role: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "metadata/timestamp.json" if role == "timestamp" else newest(folder, role)
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


def flip(pattern: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for path in folder.glob(pattern):
            data = path.read_bytes()
            path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    return change


ATTACKS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a root without signatures": (zero_signatures, "root.json is not signed"),
    "a stranger's next root": (foreign_root, "root.json is not signed"),
    "a changed timestamp": (change_text("timestamp", "2027-11-21", "2037-11-21"), "timestamp.json is not signed"),
    "a changed snapshot": (change_text("snapshot", "2027-11-21", "2037-11-21"), "snapshot.json is not what was"),
    "a changed policy": (change_text("targets", '"revoked":["1-', '"revoked":["2-'), "targets.json is not what was"),
    "changed content": (change_text("content", "2027-11-21", "2037-11-21"), "content.json is not what was signed"),
    "a changed descriptor": (flip("bundles/*/bundle.json"), "bundle.json is not what was signed"),
    "a changed index": (flip("bundles/*/index.age"), "index.age is not what was signed"),
    "a changed volume": (flip("bundles/*/vol/*.age"), "is not what was signed"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_it_stops_at_forgeries(lived_in: Place, attack: str) -> None:
    """Each is named, and nothing appears under the name that was asked for."""
    forge, told = ATTACKS[attack]
    forge(lived_in.folder)
    out = lived_in.scratch / "out"
    code, said = lived_in.open("faq/entries.jsonl", str(out))
    assert code != 0
    assert told in said
    assert not out.exists()


def test_it_says_what_is_missing(lived_in: Place) -> None:
    """Half of a digest, and an asset that is not there, in words."""
    code, said = lived_in.open("faq/none.jsonl", str(lived_in.scratch / "out"))
    assert (code, "no asset faq/none.jsonl" in said) == (1, True), said
    lived_in.root = lived_in.root[:32]
    code, said = lived_in.open()
    assert (code, "has the digest" in said) == (1, True), said
