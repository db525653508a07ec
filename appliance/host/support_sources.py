"""What the file for supporters tells of the machine, the programs, the service and its counters."""

from __future__ import annotations

import http.client
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from appliance.edge.tokens import TokenStore
from appliance.engine import probe
from appliance.host.own_page import own_page
from appliance.host.redaction import journal_line
from appliance.host.switching import own_url
from appliance.host.unit import UNIT_FILE, options_of
from appliance.store.layout import StateLayout
from bundler.format.errors import NotReady, SystemFailed

_LINES = 300
_TOOL_S = 20
_METRICS_BYTES = 4 << 20
_PROPERTIES = (
    "LoadState", "ActiveState", "SubState", "UnitFileState", "Result", "NRestarts", "ExecMainStatus", "ExecMainCode",
    "ActiveEnterTimestamp", "MemoryCurrent", "MemoryPeak", "MemorySwapMax", "NoNewPrivileges", "ProtectSystem",
    "WatchdogUSec",
)  # fmt: skip


def machine() -> dict[str, Any]:
    """Returns kernel, distribution, processors, memory and GPUs; not the machine's name."""
    found, (gpus, note) = probe.look(), probe.query_gpus()
    return {
        "kernel": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "distribution": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
        "processor": _processor(),
        "cores": found.cores,
        "threads": found.threads,
        "quota_cpus": found.quota_cpus,
        "free_bytes": found.free_bytes,
        "limited_by": found.limit,
        "gpus": [
            {"name": gpu.name, "driver": gpu.driver, "free_bytes": gpu.free_bytes, "total_bytes": gpu.total_bytes}
            for gpu in gpus
        ],
        "gpu_note": note or found.gpu_note,
    }


def programs() -> dict[str, Any]:
    """Returns the version of Python and of each installed distribution."""
    installed = {item.name.lower(): item.version for item in importlib.metadata.distributions() if item.name}
    return {"python": sys.version.split()[0], "distributions": installed}


def service() -> dict[str, Any]:
    """Returns how the unit is, without its environment, which may hold keys."""
    told: dict[str, Any] = {"unit_file": UNIT_FILE.exists()}
    if UNIT_FILE.exists():
        told["port"] = options_of(UNIT_FILE.read_text(encoding="utf-8")).get("port", "")
    lines = _output("systemctl", "show", UNIT_FILE.name, f"--property={','.join(_PROPERTIES)}").splitlines()
    return told | {name: value for name, mark, value in (line.partition("=") for line in lines) if mark}


def journal() -> Iterator[str]:
    """Yields the last lines of the service: those that we write ourselves, of the others their length."""
    for line in _output("journalctl", "-u", UNIT_FILE.name, "-n", str(_LINES), "-o", "json", "--no-pager").splitlines():
        entry = json.loads(line)
        text = entry.get("MESSAGE")
        when = datetime.fromtimestamp(int(entry.get("__REALTIME_TIMESTAMP", "0")) / 1e6, UTC)
        told = journal_line(text) if isinstance(text, str) else "[no text]"
        yield f"{when:%Y-%m-%dT%H:%M:%SZ} {entry.get('PRIORITY', '')} {told}"


def metrics(layout: StateLayout, now: datetime) -> str:
    """Returns the counters of the serving process, fetched with a token that ends with this call.

    Raises:
        NotReady: Nothing serves.
        SystemFailed: It gives no HTTP answer.
    """
    url = own_url(layout)
    if not url:
        raise NotReady("nothing serves")
    tokens, now_s = TokenStore(layout.tokens), int(now.timestamp())
    text, token = tokens.create("support file", now_s=now_s, expires_s=now_s + 60, scopes=("monitor",))
    try:
        status, page = own_page(url, "/metrics", _METRICS_BYTES, text)
        return page.decode("utf-8", "replace") if status == 200 else f"{status}\n"
    except http.client.HTTPException as error:
        raise SystemFailed(f"what serves gives no answer: {type(error).__name__}") from error
    finally:
        tokens.revoke(token.id)


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _output(program: str, *words: str) -> str:
    """Runs a tool of the system where there is one.

    Raises:
        NotReady: There is none.
        SystemFailed: It does not answer in time, or has nothing to say but that it failed.
    """
    found = shutil.which(program)
    if found is None:
        raise NotReady(f"there is no {program}")
    plain = {**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"}
    try:
        done = subprocess.run([found, *words], capture_output=True, text=True, timeout=_TOOL_S, check=False, env=plain)
    except subprocess.TimeoutExpired:
        raise SystemFailed(f"{program} does not answer within {_TOOL_S} s") from None
    if done.returncode and not done.stdout:
        raise SystemFailed(f"{program} ended with exit code {done.returncode}")
    return done.stdout
