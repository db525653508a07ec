#!/usr/bin/env python3
"""A model hub on loopback: the part of its HTTP API that huggingface-hub's client uses, with faults on demand.

It serves folders as repositories with commits, branches and tags, and large files that need no disk. Small files are
served where they are asked for; large ones redirect to a second port, as the hub's storage is another host. There are
no Xet headers. What a model card declares is read from the front matter of README.md, of its plain `key: value` lines.
It needs nothing but Python.

    scripts/local_hub.py --repository org/name=FOLDER --licence org/name=apache-2.0 --port 8100
    scripts/local_hub.py --large org/big/model.gguf=5000000000 --port 8100
    HF_ENDPOINT=http://127.0.0.1:8100 lifeboat plan PROFILE

In a test the fixture `local_hub` gives a running one:

    def test_something(local_hub):
        commit = local_hub.add("org/name", {"model.gguf": data, "LICENSE": b"..."}, card={"license": "mit"})
        local_hub.break_(Fault("cut", at_bytes=1000))     # scripts/hub_faults.py lists what can break
        ...                                               # local_hub.endpoint, .asked, .sent_bytes, .mend()
        local_hub.repositories["org/name"].commit({...})  # the branch moves
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from hub_faults import FAULTS, Asked, Fault, Record
from hub_repositories import Commit, Content, Repository, described, entry, folder_files, info

PAGE = 1000


class LocalHub(Record):
    """The hub: its repositories, what shall go wrong, and what was asked and sent."""

    def __init__(self, port: int = 0) -> None:
        super().__init__()
        self.repositories: dict[str, Repository] = {}
        self._hub, self._store = _Server(port, HubHandler, self), _Server(0, StoreHandler, self)

    @property
    def endpoint(self) -> str:
        return self._hub.url

    @property
    def storage(self) -> str:
        """The address of the large files, another origin than the endpoint."""
        return self._store.url

    def add(self, name: str, files: Mapping[str, Content | bytes] | Path, branch: str = "main", **options: Any) -> str:
        """Makes the repository if it is new, commits the files (or a folder's), and returns the commit.

        Args:
            name: "ORG/NAME".
            files: Bytes or contents by path, or a folder.
            branch: Which branch the commit is put on.
            options: Attributes of `Repository`: `card`, `token`, `gated`.
        """
        repository = self.repositories.setdefault(name, Repository(name))
        for key, value in options.items():
            setattr(repository, key, value)
        return repository.commit(folder_files(files) if isinstance(files, Path) else files, branch)

    def content(self, digest: str) -> Content | None:
        """Returns a large file by its SHA-256, whichever commit has it."""
        commits = (commit for repository in list(self.repositories.values()) for commit in repository.commits.values())
        files = (content for commit in commits for content in commit.files.values())
        return next((content for content in files if content.lfs and content.sha256 == digest), None)

    @contextmanager
    def running(self) -> Iterator[LocalHub]:
        for server in (self._hub, self._store):
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield self
        finally:
            for server in (self._hub, self._store):
                server.stopping.set()
                server.shutdown()
                server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(self, port: int, handler: type[BaseHTTPRequestHandler], hub: LocalHub) -> None:
        super().__init__(("127.0.0.1", port), handler)
        self.hub, self.stopping = hub, threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""

    @property
    def hub(self) -> LocalHub:
        return self.server.hub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode())
        self.answer()

    def answer(self) -> None:
        raise NotImplementedError

    def met(self, stage: str, path: str) -> Fault | None:
        """Notes the request, lets a fault happen that needs no file, and returns one that does."""
        asked = self.headers.get
        fields = (asked("Authorization", ""), asked("Range", ""), asked("User-Agent", ""))
        self.hub.note(Asked(self.command, stage, path, *fields))
        fault = self.hub.next_fault(stage, path)
        if fault is not None and fault.kind in ("status", "body", "redirect"):
            status = {"status": fault.status, "body": 200, "redirect": 302}[fault.kind]
            self.reply(status, fault.body or b"{}", dict(fault.headers))
            raise _Answered
        if fault is not None and fault.kind == "stall" and fault.at_bytes < 0:
            self.rest(fault.stall_s)
            raise _Answered
        return fault

    def rest(self, seconds: float) -> None:
        self.close_connection = True
        self.server.stopping.wait(seconds)

    def reply(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), "Content-Type": "application/json", **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str, said: str) -> None:
        self.reply(status, json.dumps({"error": said}).encode(), {"X-Error-Code": code, "X-Error-Message": said})

    def send_content(self, content: Content, headers: Mapping[str, str], fault: Fault | None) -> None:
        kind = fault.kind if fault is not None else ""
        start = 0 if kind == "whole" else _start(self.headers.get("Range", ""))
        if start >= content.length_bytes > 0:
            return self.reply(416, b"", {"Content-Range": f"bytes */{content.length_bytes}"})
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(content.length_bytes - start))
        self.send_header("Accept-Ranges", "bytes")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{content.length_bytes - 1}/{content.length_bytes}")
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.stream(content, start, fault)
        return None

    def stream(self, content: Content, start: int, fault: Fault | None) -> None:
        kind = fault.kind if fault is not None else ""
        stop = content.length_bytes
        if fault is not None and kind in ("cut", "stall"):
            stop = min(stop, max(start, fault.at_bytes))
        at = start
        for piece in content.pieces(start, stop):
            if fault is not None and kind == "wrong" and at <= fault.at_bytes < at + len(piece):
                place = fault.at_bytes - at
                piece = piece[:place] + bytes([piece[place] ^ 1]) + piece[place + 1 :]
            if fault is not None and kind == "drip":
                return self.drip(piece, fault.stall_s)
            self.wfile.write(piece)
            at += len(piece)
            self.hub.sent(len(piece))
        if fault is not None and kind in ("cut", "stall"):
            self.wfile.flush()
            self.rest(fault.stall_s if kind == "stall" else 0)
        return None

    def drip(self, piece: bytes, every_s: float) -> None:
        self.close_connection = True
        for byte in piece:
            if self.server.stopping.wait(every_s):
                return
            self.wfile.write(bytes([byte]))
            self.wfile.flush()
            self.hub.sent(1)


class _Answered(Exception):
    """A fault or a refusal has already answered."""


class HubHandler(_Handler):
    """The API and the small files."""

    def answer(self) -> None:
        path = urlsplit(self.path)
        parts = [unquote(part) for part in path.path.strip("/").split("/")]
        try:
            if parts[:2] == ["api", "models"] and len(parts) >= 4:
                self.api("/".join(parts[2:4]), parts[4:], parse_qs(path.query))
            elif len(parts) >= 5 and parts[2] == "resolve":
                self.resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
            else:
                self.met("other", path.path)
                self.refuse(404, "", "there is no such path")
        except _Answered:
            return

    def opened(self, name: str, revision: str) -> tuple[Repository, Commit]:
        """Returns the repository at a revision, or answers why not (the codes are the hub's own)."""
        repository, given = self.hub.repositories.get(name), self.headers.get("Authorization", "")
        if repository is None:
            raise self.refused(401 if not given else 404, "RepoNotFound", "Repository not found")
        if repository.token and given != f"Bearer {repository.token}":
            if repository.gated:
                raise self.refused(401 if not given else 403, "GatedRepo", f"Access to model {name} is restricted.")
            raise self.refused(401, "RepoNotFound", "Invalid username or password.")
        commit = repository.at(revision)
        if commit is None:
            raise self.refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository, commit

    def refused(self, status: int, code: str, said: str) -> _Answered:
        self.refuse(status, code, said)
        return _Answered()

    def api(self, name: str, rest: list[str], query: dict[str, list[str]]) -> None:
        what = rest[0] if rest else "revision"
        revision = rest[1] if len(rest) > 1 else "main"
        stage = {"revision": "info", "tree": "tree", "paths-info": "tree"}.get(what, "other")
        fault = self.met(stage, "/".join(rest[2:]))
        if stage == "other":
            raise self.refused(404, "", "there is no such path")
        repository, commit = self.opened(name, revision)
        wrong = fault is not None and fault.kind == "digest"
        if what == "revision":
            return self.reply(200, json.dumps(info(repository, commit)).encode(), {})
        if what == "paths-info":
            known = [path for path in self.form.get("paths", []) if path in commit.files]
            return self.reply(200, json.dumps([entry(p, commit.files[p], wrong=wrong) for p in known]).encode(), {})
        return self.tree(commit, "/".join(rest[2:]), query, wrong=wrong)

    def tree(self, commit: Commit, folder: str, query: dict[str, list[str]], *, wrong: bool) -> None:
        inside = f"{folder}/" if folder else ""
        below = sorted(path for path in commit.files if path.startswith(inside))
        rows: dict[str, dict[str, Any]] = {}
        for path in below:
            steps = path[len(inside) :].split("/")
            for depth in range(1, len(steps)):
                parent = inside + "/".join(steps[:depth])
                rows.setdefault(parent, {"type": "directory", "oid": "0" * 40, "size": 0, "path": parent})
            rows[path] = entry(path, commit.files[path], wrong=wrong)
        if query.get("recursive", ["false"])[0].lower() != "true":
            rows = {path: row for path, row in rows.items() if "/" not in path[len(inside) :]}
        start = int(query.get("cursor", ["0"])[0])
        following = f"{self.server.url}{self.path.split('?')[0]}?recursive=true&cursor={start + PAGE}"
        link = {"Link": f'<{following}>; rel="next"'} if start + PAGE < len(rows) else {}
        self.reply(200, json.dumps(list(rows.values())[start : start + PAGE]).encode(), link)

    def resolve(self, name: str, revision: str, path: str) -> None:
        fault = self.met("head" if self.command == "HEAD" else "get", path)
        _, commit = self.opened(name, revision)
        content = commit.files.get(path)
        headers = {"X-Repo-Commit": commit.sha}
        if content is None:
            said = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found", **headers}
            return self.reply(404, b"Entry not found", said)
        etag = content.etag if fault is None or fault.kind != "digest" else content.etag[::-1]
        if not content.lfs:
            return self.send_content(content, {"ETag": f'"{etag}"', **headers}, fault)
        headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(content.length_bytes)}
        where = f"{self.hub.storage}/{content.sha256}/{quote(Path(path).name)}?signed=1"
        return self.reply(302, b"", {**headers, "Location": where})


class StoreHandler(_Handler):
    """The large files, by their digest."""

    def answer(self) -> None:
        digest, _, name = urlsplit(self.path).path.strip("/").partition("/")
        try:
            fault = self.met("store", unquote(name))
        except _Answered:
            return None
        content = self.hub.content(digest)
        if content is None:
            return self.refuse(404, "", "there is no such object")
        return self.send_content(content, {"ETag": f'"{digest}"'}, fault)


def _start(asked: str) -> int:
    """Returns where a `Range: bytes=N-` begins; other ranges are not asked for by the client."""
    first = asked.removeprefix("bytes=").partition("-")[0]
    return int(first) if first.isdigit() else 0


def _pair(parser: argparse.ArgumentParser, text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if name.count("/") < 1 or not value:
        parser.error(f"{text!r} is not ORG/NAME=VALUE")
    return name, value


def main() -> None:
    listed = "\n".join(f"  {kind:9} {text}" for kind, text in FAULTS.items())
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=f"faults:\n{listed}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repository", action="append", default=[], metavar="ORG/NAME=FOLDER")
    parser.add_argument("--large", action="append", default=[], metavar="ORG/NAME/FILE=BYTES", help="made, not stored")
    parser.add_argument("--licence", action="append", default=[], metavar="ORG/NAME=ID", help="makes its card")
    parser.add_argument("--fault", action="append", default=[], metavar="JSON", help='like {"kind":"cut","at_bytes":9}')
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one, which is printed")
    parser.add_argument(
        "--for", dest="seconds", type=float, default=600, help="stops after so many seconds (%(default)s)"
    )
    words = parser.parse_args()
    hub = LocalHub(words.port)
    said = (words.repository, words.large, words.licence)
    for name, files in described(*([_pair(parser, text) for text in texts] for texts in said)).items():
        hub.add(name, files)
    hub.break_(*(Fault(**json.loads(text)) for text in words.fault))
    with hub.running():
        print(json.dumps({"endpoint": hub.endpoint, "storage": hub.storage}), flush=True)
        time.sleep(words.seconds)
    print(json.dumps({"requests": len(hub.asked), "sent_bytes": hub.sent_bytes}), flush=True)


if __name__ == "__main__":
    main()
