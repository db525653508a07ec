"""Before the story: keyring, bundle, site and box. What an earlier run made is used again."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from pathlib import Path
from typing import Any

from environment import ROOT
from quickstart_checks import free_port, is_free
from story_box import PROFILE, SITE, Workplace

PASSPHRASE = "passphrase.txt"


def prepare(place: Workplace) -> tuple[int, str]:
    """Builds and installs what is not there; returns the fake cloud's port and a fresh token."""
    folder = place.folder
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    port_file = folder / "cloud-port"
    port = int(port_file.read_text()) if port_file.exists() else 0
    if not port or not is_free(port):
        port = free_port()
    stamp, made_of = folder / "bundle.stamp", digest_of_inputs(port)
    # New, or stopped half-way, or made by another builder, whose format this one may not read.
    changed = stamp.exists() and stamp.read_text() != made_of
    if changed or not (folder / "home" / "roots" / "1.root.json").exists():
        for name in ("home", "repository", "state"):
            shutil.rmtree(folder / name, ignore_errors=True)
        (folder / "site.json").unlink(missing_ok=True)
        stamp.unlink(missing_ok=True)
        (folder / PASSPHRASE).write_text(secrets.token_urlsafe(24) + "\n")
        place.run("lifeboat", "init", "--name", "Northquay Managed IT", *_keys(folder))
    built = (folder / "repository" / "metadata" / "timestamp.json").exists()
    if not built or not stamp.exists() or stamp.read_text() != made_of:
        address = f"fake-cloud=http://127.0.0.1:{port}/v1"
        words = ("build", PROFILE, "--repository", folder / "repository", "--wheels", folder / "wheels", "--yes")
        place.run("lifeboat", *words, "--upstream", address, *_keys(folder))
        port_file.write_text(f"{port}\n")
        stamp.write_text(made_of)
    if not (folder / "site.json").exists():
        added = ("site", "add", SITE, "--repository", folder / "repository", "--json")
        (folder / "site.json").write_text(place.run("lifeboat", *added, *_keys(folder)).stdout)
    _install(place)
    made = place.run("lifeboat-appliance", "token", "create", "quickstart", "--state", folder / "state", "--json")
    return port, str(json.loads(made.stdout)["token"])


def serving_bundle(place: Workplace) -> dict[str, Any]:
    """Returns the box's own status."""
    done = place.run("lifeboat-appliance", "status", "--state", place.folder / "state", "--json")
    status: dict[str, Any] = json.loads(done.stdout)
    return status


def digest_of_inputs(port: int) -> str:
    """Names all that the bundle is made of: a changed profile, builder or port makes a new one."""
    digest = hashlib.sha256(f"{port}".encode())
    files = [path for folder in (PROFILE.parent, ROOT / "bundler") for path in folder.rglob("*")]
    for path in sorted(files):
        if path.is_file() and path.suffix not in (".pyc", ".lock"):
            digest.update(f"{path.relative_to(ROOT)} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _install(place: Workplace) -> None:
    folder = place.folder
    code = folder / "site-code.txt"
    code.write_text(json.loads((folder / "site.json").read_text())["code"] + "\n")
    words = ("install", folder / "repository", "--state", folder / "state", "--site", SITE)
    print(place.run("lifeboat-appliance", *words, "--site-code-file", code).stdout.rstrip())


def _keys(folder: Path) -> tuple[str | Path, ...]:
    return ("--passphrase-file", folder / PASSPHRASE)
