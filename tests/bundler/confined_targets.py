"""What the confined child of test_confine.py is told to do: well and badly behaved parsers."""

from __future__ import annotations

import ctypes
import os
import resource
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from bundler.format import errors

Files = Mapping[str, IO[bytes]]


class OwnKind(errors.BadBundle):
    """An error class that the parent does not know by name."""


def copy(request: Mapping[str, Any], inputs: Files, outputs: Files) -> dict[str, Any]:
    data = inputs["in"].read()
    outputs["out"].write(data)
    return {"request": dict(request), "length": len(data)}


def surroundings(_request: Mapping[str, Any], inputs: Files, _outputs: Files) -> dict[str, Any]:
    fields = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    names = ("CORE", "AS", "FSIZE", "NOFILE", "CPU", "NPROC")
    return {
        "environment": dict(os.environ),
        "folder": str(Path.cwd()),
        "path": sys.path,
        "files": _open_files(),
        "privileges": fields["NoNewPrivs"],
        "capabilities": [fields["CapEff"], fields["CapPrm"]],
        "limits": {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0] for name in names},
        "inputs": list(inputs),
    }


def _open_files() -> list[str]:
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(entry.readlink()))
        except FileNotFoundError:  # the folder's own descriptor
            continue
    return found


def connect(request: Mapping[str, Any], _inputs: Files, _outputs: Files) -> str:
    try:
        socket.create_connection(("127.0.0.1", request["port"]), timeout=5).close()
    except OSError as error:
        return type(error).__name__
    return "connected"


def raise_error(request: Mapping[str, Any], _inputs: Files, _outputs: Files) -> None:
    if request["class"] == "BadInputs":
        raise errors.BadInputs("two", ("first", "second"), "look")
    if request["class"] == "OwnKind":
        raise OwnKind("fact", "hint")
    kind = getattr(errors, request["class"], None) or {"KeyError": KeyError, "OSError": OSError}[request["class"]]
    raise kind(request.get("fact", "fact"), "hint")


def eat_memory(_request: Mapping[str, Any], _inputs: Files, _outputs: Files) -> int:
    return len(bytearray(2**32))


def spin(_request: Mapping[str, Any], _inputs: Files, _outputs: Files) -> None:
    while True:
        pass


def sleep(request: Mapping[str, Any], _inputs: Files, _outputs: Files) -> None:
    time.sleep(request["s"])


def write_much(_request: Mapping[str, Any], _inputs: Files, outputs: Files) -> None:
    for _ in range(64):
        outputs["out"].write(bytes(2**20))


def crash(_request: Mapping[str, Any], _inputs: Files, _outputs: Files) -> None:
    ctypes.string_at(0)


def stop(request: Mapping[str, Any], _inputs: Files, outputs: Files) -> None:
    outputs["out"].write(b"half")
    outputs["out"].flush()
    print("\x1b[2Jlast words", file=sys.stderr, flush=True)  # noqa: T201 - what a native parser does
    os._exit(request["code"])


def return_value(request: Mapping[str, Any], _inputs: Files, _outputs: Files) -> Any:
    print("noise on stdout")  # noqa: T201 - what a native parser does
    values = {"long": "x" * 100_000, "nan": float("nan"), "infinite": [float("inf")], "set": {1}}
    return values[request["kind"]]


def forge(request: Mapping[str, Any], _inputs: Files, _outputs: Files) -> None:
    """Answers in the child's place, as a parser taken over by its input could."""
    for number in range(3, 1024):
        try:
            os.write(number, request["answer"].encode())
        except OSError:  # not open, or open for reading
            continue
    os._exit(0)


def leave_somebody(request: Mapping[str, Any], _inputs: Files, _outputs: Files) -> None:
    if (number := os.fork()) == 0:
        time.sleep(60)
        os._exit(0)
    Path(request["note"]).write_text(str(number))


def fill_stderr(_request: Mapping[str, Any], _inputs: Files, _outputs: Files) -> str:
    sys.stderr.write("x" * 2**20)
    return "done"
