#!/usr/bin/env python3
"""The story of an outage, played on real parts; scripts/quickstart runs it. Every step is asserted."""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from environment import Environment, LlamaBuild
from story_box import PROFILE, SITE, Answer, Box, StoryFailed, Workplace, demand, stop, wait_for
from story_cases import Cases
from story_setup import prepare, serving_bundle

LABEL = "[fake cloud]"
CLOUD = "fake-cloud"
BACK_S = 60  # a box that remembers an outage asks again this soon, by one request at a time
QUESTION = "Please say in two sentences what a lifeboat is for."
INTERRUPTED = 130
RED, GREEN, OFF = ("\x1b[31m", "\x1b[32m", "\x1b[0m") if sys.stdout.isatty() else ("", "", "")


class Story:
    """The steps, in order; each prints what served it, from which source and in how many seconds."""

    def __init__(self, place: Workplace, box: Box, port: int, seed: int, build: LlamaBuild | None) -> None:
        self._place, self._box, self._port, self._build = place, box, port, build
        self._cases = Cases(PROFILE, random.Random(seed))
        self._cloud: subprocess.Popen[bytes] | None = None

    def tell(self) -> None:
        steps: list[tuple[str, Callable[[], str]]] = [
            ("a", self._cloud_answers),
            ("b", self._cloud_dies),
            ("c", self._faq),
            ("d", self._documents),
            ("e", self._ticket),
            ("f", self._refusal),
            ("g", self._flipped_byte),
            ("-", self._local_model),
            ("h", self._cloud_returns),
        ]
        for name, step in steps:
            print(f"  ({name}) {step()}", flush=True)

    def stop(self) -> None:
        stop(self._cloud)

    def _cloud_answers(self) -> str:
        self._cloud = self._place.cloud(self._port, 3600)
        answer = self._cloud_serves()
        demand(LABEL in self._said(answer), "the fake cloud did not answer through the gateway")
        return self._line("a clearly labelled fake cloud answers through the gateway", answer, self._said(answer))

    def _cloud_dies(self) -> str:
        seen = []
        for event in self._cloud_streams():
            seen.append(event)
            if len(seen) == 4 and self._cloud is not None:
                self._cloud.kill()
        demand("[DONE]" not in seen, "a truncated stream was presented as whole")
        demand(any('"error"' in event for event in seen), "the cut stream carries no error")
        answer = self._chat(self._cases.one("faq")["question"])
        facts = answer.body["lifeboat"]
        demand(facts["rung"] != CLOUD and facts["banner"], "the next answer is not the box's, with its banner")
        return self._line(f"killed in mid-stream (told in the stream); {facts['banner']}", answer, self._said(answer))

    def _faq(self) -> str:
        found = self._cases.holding("faq", self._ask)
        return self._line(f"FAQ, {found.count}: {found.case['question']}", found.answer, found.answer.body["answer"])

    def _documents(self) -> str:
        found = self._cases.holding("documents", self._ask)
        case, cited = found.case, found.answer.body["citations"]
        quote = next(citation for citation in cited if citation["source"] == case["expect"])
        said = f'"{quote["quote"]}" ({quote["source"]})'
        return self._line(f"documents, {found.count}: {case['question']}", found.answer, said)

    def _ticket(self) -> str:
        found = self._cases.holding("route", self._route)
        label = f"{found.answer.body['label']}  (router tickets, {found.answer.seconds:.2f} s)"
        return f"ticket, {found.count}: {found.case['input']}\n      -> {label}"

    def _refusal(self) -> str:
        found = self._cases.holding("refuse", self._ask)
        title = f"must be refused, {found.count}: {found.case['question']}"
        return self._line(title, found.answer, found.answer.body["answer"].split("\n")[0])

    def _flipped_byte(self) -> str:
        copy = self._place.folder / "flipped"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self._place.folder / "repository", copy)
        newest = max(copy.glob("bundles/*"), key=lambda folder: folder.name)
        volume = newest / "vol" / "0001.age"
        with volume.open("r+b") as file:
            file.seek(volume.stat().st_size // 2)
            byte = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([byte[0] ^ 1]))
        before = serving_bundle(self._place)["version"]
        words = ("install", copy, "--state", self._place.folder / "second-state", "--site", SITE)
        code = ("--site-code-file", self._place.folder / "site-code.txt")
        done = self._place.run("lifeboat-appliance", *words, *code, check=False)
        shutil.rmtree(copy)
        shutil.rmtree(self._place.folder / "second-state")
        demand(done.returncode == 14, f"a flipped byte gave exit code {done.returncode}, expected 14")
        demand(serving_bundle(self._place)["version"] == before, "the serving version changed")
        found = self._cases.holding("faq", self._ask)
        title = f"{RED}one byte flipped: refused, exit code 14{OFF}; still serving"
        return self._line(title, found.answer, found.case["question"])

    def _local_model(self) -> str:
        if self._build is not None and self._build.is_running():
            log = self._build.log
            print(f"  (-) waiting for llama-cpp-python, which is being built: see {log}; Ctrl-C ends", flush=True)
        wait_for(self._model_ready, 1800, "the local model, which joins once llama-cpp-python is there")
        answer = self._chat()
        body, facts = answer.body, answer.body["lifeboat"]
        digest = next(model for model in self._ready()["models"])["digest"]
        demand(facts["rung"] == "smollm2-135m", f"the local model did not answer: {facts}")
        demand(body["choices"][0]["finish_reason"] in ("stop", "length"), "the answer did not finish")
        demand(self._said(answer).strip(), "the answer is empty")
        demand(digest.startswith(body["system_fingerprint"]), "another model answered than the bundle's")
        return self._line("a free question, by the local model", answer, self._said(answer))

    def _cloud_returns(self) -> str:
        self._cloud = self._place.cloud(self._port, 3600)
        start = time.monotonic()
        answer = self._cloud_serves()
        return f"the cloud is back: {answer.body['lifeboat']['mode']} after {time.monotonic() - start:.1f} s"

    def _cloud_serves(self) -> Answer:
        """Asks until the cloud answers: what an earlier run ended with is remembered, and others serve meanwhile."""
        return wait_for(self._by_cloud, BACK_S, "an answer of the fake cloud through the gateway", every_s=1)

    def _by_cloud(self) -> Answer | None:
        answer = self._chat()
        return answer if answer.body["lifeboat"]["rung"] == CLOUD else None

    def _cloud_streams(self) -> Iterator[str]:
        return wait_for(self._stream_by_cloud, BACK_S, "a stream of the fake cloud through the gateway", every_s=1)

    def _stream_by_cloud(self) -> Iterator[str] | None:
        stream = self._box.stream("/v1/chat/completions", _chat("Tell me a long story about the sea."))
        if stream.rung == CLOUD:
            return stream.events
        stream.events.close()
        return None

    def _model_ready(self) -> bool:
        rungs: dict[str, str] = {rung["rung"]: rung["state"] for rung in self._ready()["rungs"]}
        if self._build is not None:
            demand(not self._build.failed(), f"llama-cpp-python did not build: see {self._build.log}")
            done, total = self._build.steps()
            if self._build.is_running() and sys.stderr.isatty():
                sys.stderr.write(f"\r      llama-cpp-python is being built: step {done} of {total or '?'} ")
        return rungs["smollm2-135m"] == "ready"

    def _ready(self) -> dict[str, Any]:
        ready: dict[str, Any] = self._box.get("/health/ready").body
        return ready

    def _ask(self, case: dict[str, Any]) -> Answer:
        answer = self._box.post("/v1/ask", {"question": case["question"]})
        demand(answer.status == 200, f"/v1/ask gave HTTP {answer.status}: {answer.body}")
        return answer

    def _route(self, case: dict[str, Any]) -> Answer:
        return self._box.post("/v1/route", {"input": case["input"]})

    def _chat(self, question: str = QUESTION) -> Answer:
        answer = self._box.post("/v1/chat/completions", _chat(question))
        demand(answer.status == 200, f"chat gave HTTP {answer.status}: {answer.body}")
        return answer

    def _said(self, answer: Answer) -> str:
        return str(answer.body["choices"][0]["message"]["content"])

    def _line(self, title: str, answer: Answer, text: str) -> str:
        facts = answer.body["lifeboat"]
        return f"{title}\n      -> {' '.join(text.split())[:160]}\n      rung {facts['rung']}, {answer.seconds:.2f} s"


def _chat(question: str) -> dict[str, Any]:
    return {"model": "auto", "messages": [{"role": "user", "content": question}], "max_tokens": 64}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".quickstart"), help="where everything lies")
    parser.add_argument("--port", type=int, default=0, help="port of the box (default: a free one)")
    parser.add_argument("--started", type=float, default=time.time(), help="when quickstart began, in Unix seconds")
    parser.add_argument("--set", default="cpu", help="which requirement set the environment was made from")
    parser.add_argument("--seed", type=int, help="draw the questions of an earlier run again")
    parser.add_argument("--once", action="store_true", help="stop after the story")
    parser.add_argument("--no-build", action="store_true", help="this Python has llama-cpp-python: build none")
    return parser.parse_args()


def play(asked: argparse.Namespace, place: Workplace, build: LlamaBuild | None) -> None:
    """Prepares, serves, tells, and stays until Ctrl-C unless asked to play once."""
    seed = asked.seed if asked.seed is not None else random.SystemRandom().randrange(10**6)
    port, token = prepare(place)
    url_file = place.folder / "url"
    url_file.unlink(missing_ok=True)
    program = Path(sys.executable).parent / "lifeboat-appliance"
    words = ("serve", "--state", place.folder / "state", "--port", str(asked.port), "--port-file", url_file)
    server, story = place.start("box.log", program, *words), None
    try:
        wait_for(lambda: url_file.exists() or server.poll() is not None, 60, "the box")
        demand(server.poll() is None, f"the box did not start: see {place.folder / 'box.log'}")
        url = url_file.read_text().strip()
        wait_for(lambda: _live(url), 60, "the box's first answer")
        print(f"== the box answers {time.time() - asked.started:.0f} s after the start; the story, seed {seed}:")
        story = Story(place, Box(url, token), port, seed, build)
        story.tell()
        print(f"{GREEN}== every step held{OFF}")
        if not asked.once:
            _stay(url, token)
    finally:
        if story is not None:
            story.stop()
        stop(server)


def _live(url: str) -> bool:
    try:
        return Box(url, "").get("/health/live").status == 200
    except (OSError, ValueError):
        return False


def _stay(url: str, token: str) -> None:
    print(f"\n   chat page   {url}/#token={token}")
    print(f"   token       {token}")
    print("   your own    copy profiles/demo.toml, point [[faq]], [[documents]] and [[model]] at file: sources,")
    print("               then: lifeboat build PROFILE --repository DIR; lifeboat-appliance install DIR")
    print("   stop        Ctrl-C here; scripts/quickstart --clean removes everything", flush=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print("\nstopped")


def main() -> int:
    asked = arguments()
    # Whoever ends this process means its servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    place = Workplace(asked.folder)
    environment = Environment(asked.folder / "venv", asked.set, asked.folder / "bootstrap")
    build = (
        None
        if asked.no_build or environment.has("llama")
        else LlamaBuild(environment, asked.folder / "llama-build.log")
    )
    try:
        play(asked, place, build)
    except StoryFailed as error:
        print(f"{RED}error: {error}{OFF}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; scripts/quickstart goes on from what is there", file=sys.stderr)
        return INTERRUPTED
    finally:
        if build is not None:
            build.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
