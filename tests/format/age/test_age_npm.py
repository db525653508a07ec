"""Files cross-open with the npm package `age-encryption` (typage), the second implementation of hybrid recipients."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from bundler.format import age

VERSION = "0.3.1"
PROGRAM = """
import * as age from "age-encryption";
import { readFileSync, writeFileSync } from "node:fs";
const [what, key, source, target] = process.argv.slice(2);
const data = readFileSync(source);
if (what === "encrypt") {
  const encrypter = new age.Encrypter();
  encrypter.addRecipient(key);
  writeFileSync(target, await encrypter.encrypt(data));
} else {
  const decrypter = new age.Decrypter();
  decrypter.addIdentity(key);
  writeFileSync(target, await decrypter.decrypt(data));
}
"""
LENGTHS = (0, 1, 65_536, 65_537, 200_000)


@pytest.fixture(scope="session")
def typage(repo_root: Path) -> Path:
    """A folder with the package and our program; installed once and kept in the ignored cache."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("npm and node are not installed")
    folder = repo_root / ".cache" / "npm"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "node_modules" / "age-encryption").exists():
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", f"age-encryption@{VERSION}"]
        subprocess.run(command, cwd=folder, check=True, timeout=180)
    (folder / "cross.mjs").write_text(PROGRAM)
    return folder


def run(typage: Path, what: str, key: str, source: Path, target: Path) -> None:
    subprocess.run(["node", "cross.mjs", what, key, str(source), str(target)], cwd=typage, check=True, timeout=60)


@pytest.mark.parametrize("suite", age.SUITES)
@pytest.mark.parametrize("length", LENGTHS)
def test_files_cross_open(typage: Path, tmp_path: Path, suite: str, length: int) -> None:
    """Both ways, classic and hybrid, at the borders of a piece."""
    identity = age.generate_identity(suite)
    plain = bytes(range(256)) * (length // 256 + 1)
    plain = plain[:length]
    (tmp_path / "ours.age").write_bytes(age.encrypt(plain, [identity.recipient]))
    run(typage, "decrypt", str(identity), tmp_path / "ours.age", tmp_path / "plain")
    assert (tmp_path / "plain").read_bytes() == plain
    run(typage, "encrypt", str(identity.recipient), tmp_path / "plain", tmp_path / "theirs.age")
    assert age.decrypt((tmp_path / "theirs.age").read_bytes(), [identity], limit_bytes=1 << 20) == plain
