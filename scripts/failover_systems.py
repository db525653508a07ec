"""The systems that stand before the wall: this project's box, LiteLLM's proxy, Portkey's gateway.

Each has what failoverbench gives each: one primary, one fallback, two retries, 30 s for a request; the rest is the
vendor's default. The box has its own defaults, a second provider as the fallback, and its local model behind it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from environment import ROOT
from failover_box import CONTINUE, LOCAL, POLICIES, PRIMARY, PROFILE, SECOND, routes, serving, upstream
from failover_call import Caller
from failover_scenarios import SCENARIOS, SECOND_STRICT, Scenario
from failover_scenarios import SECOND as SECOND_OK
from fault_wall import Addresses, FaultWall, Seen

PEERS = ROOT / ".cache" / "peers"
RETRIES, TIMEOUT_S = 2, 30
# Under `continue` the second provider goes on natively with what it is given, but for the one that refuses it.
GOES_ON = "ok-continues"
# Providers for the figures of `failover_measures`: one that stays down, and those that fail and recover, with how, and
# with what fails last: a user's request or a billed probe.
OPENED = "opened"
BACK = {
    "back-silent": ("silent", "asked"),
    "back-slow": ("slow-first-token", "asked"),
    "back-billed": ("slow-first-token", "billed"),
    "back-error": ("error-first", "billed"),
}


class System(Protocol):
    """Something that stands between callers and the wall."""

    label: str

    def caller(self, scenario: Scenario, deadline_s: float) -> tuple[Caller, str]:
        """Returns a client of it for one fault, and the model to ask for."""

    def healthy(self, deadline_s: float) -> tuple[Caller, str]:
        """Returns the same for a request that nothing should disturb."""

    def asked(self, scenario: Scenario, seen: Seen) -> str:
        """Says whether a request of the wall's log went to "primary", "second", or "" for neither."""


Standing = Callable[[FaultWall, Addresses, Path], AbstractContextManager[System]]


@dataclass
class Lifeboat:
    """The box: an upstream and a route for each fault, and two healthy providers behind them."""

    label: str
    url: str
    token: str
    policy: str
    wall: str

    def caller(self, scenario: Scenario, deadline_s: float) -> tuple[Caller, str]:
        return Caller(f"{self.url}/v1", self.token, deadline_s), f"{self.policy}-{scenario.number.lower()}"

    def healthy(self, deadline_s: float) -> tuple[Caller, str]:
        return Caller(f"{self.url}/v1", self.token, deadline_s), "primary"

    def asked(self, scenario: Scenario, seen: Seen) -> str:
        place = seen.path.split("/")[1]
        return {scenario.number.lower(): "primary", second_of(scenario, self.policy): "second"}.get(place, "")


@dataclass
class LiteLlm:
    """LiteLLM's proxy: a model for each fault, with a fallback each."""

    label: str
    url: str

    def caller(self, scenario: Scenario, deadline_s: float) -> tuple[Caller, str]:
        return Caller(f"{self.url}/v1", "sk-wall", deadline_s), _model(scenario)

    def healthy(self, deadline_s: float) -> tuple[Caller, str]:
        return Caller(f"{self.url}/v1", "sk-wall", deadline_s), "ok"

    def asked(self, scenario: Scenario, seen: Seen) -> str:
        return by_fault(scenario, seen)


@dataclass
class Portkey:
    """Portkey's gateway: everything comes with the request."""

    label: str
    url: str
    wall: str

    def caller(self, scenario: Scenario, deadline_s: float) -> tuple[Caller, str]:
        return self._caller(scenario.fault, scenario.second, deadline_s), scenario.fault

    def healthy(self, deadline_s: float) -> tuple[Caller, str]:
        return self._caller("ok", "ok", deadline_s), "ok"

    def asked(self, scenario: Scenario, seen: Seen) -> str:
        return by_fault(scenario, seen)

    def _caller(self, primary: str, second: str, deadline_s: float) -> Caller:
        targets = [
            {
                "provider": "openai",
                "api_key": "k",
                "custom_host": f"{self.wall}/v1",
                "override_params": {"model": name},
            }
            for name in (primary, second)
        ]
        on = [429, 500, 502, 503, 504]
        targets[0]["retry"] = {"attempts": RETRIES, "on_status_codes": on, "use_retry_after_header": True}
        config = {"strategy": {"mode": "fallback"}, "request_timeout": TIMEOUT_S * 1000, "targets": targets}
        return Caller(f"{self.url}/v1", "k", deadline_s, {"x-portkey-config": json.dumps(config)})


def by_fault(scenario: Scenario, seen: Seen) -> str:
    """Says the same where the model's name chose the fault."""
    return {scenario.fault: "primary", scenario.second: "second"}.get(seen.fault, "")


def second_of(scenario: Scenario, policy: str) -> str:
    """Returns the name of the second provider of a fault."""
    return GOES_ON if policy == CONTINUE and scenario.second == SECOND_OK else scenario.second


def _standing(policy: str) -> Standing:
    @contextmanager
    def box(wall: FaultWall, at: Addresses, folder: Path) -> Iterator[System]:
        with serving(folder / "box", _profile(wall, at), wheels=ROOT / ".cache" / "wheels") as standing:
            yield Lifeboat(f"Lifeboat {_commit()}, `{policy}`", standing.url, standing.token, policy, at.url)

    return box


def _profile(wall: FaultWall, at: Addresses) -> str:
    wall.act(PRIMARY, SECOND_OK)
    wall.act(SECOND, SECOND_OK)
    wall.act(OPENED, "503")
    parts = [PROFILE.format(wall=at.url, second=f"{at.url}/second/v1", first_ms=10_000, stall_ms=15_000)]
    parts += [upstream(name, f"{at.url}/{name}") for name in (SECOND_OK, SECOND_STRICT, OPENED, *BACK)]
    parts.append(upstream(GOES_ON, f"{at.url}/{GOES_ON}", more="continues = true"))
    parts += [routes(name, name, SECOND, LOCAL) for name in (OPENED, *BACK)]
    for scenario in SCENARIOS:
        name = scenario.number.lower()
        wall.act(name, scenario.fault)
        parts += [upstream(name, f"{at.url}/{name}"), routes(name, name, scenario.second, LOCAL, policies=POLICIES[:2])]
        # No local model: whole answers are told by their text, which no model would go on with.
        beside = dict.fromkeys((second_of(scenario, CONTINUE), GOES_ON))
        parts.append(routes(name, name, *beside, policies=(CONTINUE,)))
    return "".join(parts)


@contextmanager
def litellm(wall: FaultWall, at: Addresses, folder: Path) -> Iterator[System]:  # noqa: ARG001 - one form for all
    program = PEERS / "litellm" / "bin"
    port, config = free_port(), folder / "litellm.yaml"
    names = ["ok", SECOND_STRICT, *(_model(scenario) for scenario in SCENARIOS)]
    models = [{"model_name": name, "litellm_params": _litellm_target(name, at.url)} for name in names]
    backups = [{_model(scenario): [scenario.second]} for scenario in SCENARIOS]
    settings = {"num_retries": RETRIES, "timeout": TIMEOUT_S, "fallbacks": backups, "context_window_fallbacks": backups}
    general = {"master_key": "sk-wall"}
    config.write_text(json.dumps({"model_list": models, "router_settings": settings, "general_settings": general}))
    environment = {**os.environ, "LITELLM_OFFLINE_MODE": "true", "LITELLM_LOCAL_MODEL_COST_MAP": "true"}
    words = [str(program / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    version = _version(program / "python", "litellm")
    with process_of(words, folder / "litellm.log", port, environment):
        yield LiteLlm(f"LiteLLM proxy {version}", f"http://127.0.0.1:{port}")


@contextmanager
def portkey(wall: FaultWall, at: Addresses, folder: Path) -> Iterator[System]:  # noqa: ARG001 - one form for all
    package = PEERS / "portkey" / "node_modules" / "@portkey-ai" / "gateway"
    version, port = json.loads((package / "package.json").read_text())["version"], free_port()
    words = ["node", str(package / "build" / "start-server.js"), f"--port={port}", "--headless"]
    with process_of(words, folder / "portkey.log", port, dict(os.environ)):
        yield Portkey(f"Portkey gateway {version}", f"http://127.0.0.1:{port}", at.url)


SYSTEMS: dict[str, Standing] = {policy: _standing(policy) for policy in ("hold", "error", CONTINUE)}
SYSTEMS |= {"litellm": litellm, "portkey": portkey}


def _model(scenario: Scenario) -> str:
    """Two scenarios may have one fault and different fallbacks: the number is part of the name, the wall drops it."""
    return f"{scenario.number.lower()}/{scenario.fault}"


def _litellm_target(name: str, wall: str) -> dict[str, str]:
    return {"model": f"openai/{name.rpartition('/')[2]}", "api_base": f"{wall}/v1", "api_key": "k"}


@contextmanager
def process_of(
    words: Sequence[str | Path], log: Path, port: int, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a server; the block begins once its port takes connections."""
    with log.open("wb") as output:
        process = subprocess.Popen(list(map(str, words)), stdout=output, stderr=output, env=environment)
    try:
        end = time.monotonic() + 120
        while not listens(port):
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"error: {words[0]} did not start: see {log}")
            time.sleep(0.2)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def listens(port: int) -> bool:
    """Says whether somebody takes connections on a port of loopback."""
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """Returns a port of loopback that nobody has."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])


def _version(python: Path, package: str) -> str:
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "of no commit"
