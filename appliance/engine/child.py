"""The engine's process: loads the model through its parent, then speaks OpenAI's wire on a Unix socket.

It holds no key, has no network and opens no file of the store; its parent's end kills it (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from appliance.engine.ahead import BUFFER_BYTES
from appliance.engine.fit import Plan
from appliance.engine.memory import first_to_go
from appliance.engine.no_network import leave_network
from appliance.engine.pulse import Pulse
from appliance.engine.transfer import RemoteReader, report
from bundler.format.service import CHAT

EXIT_MISSING = 40  # llama-cpp-python is not installed
EXIT_REFUSED = 41  # the model did not load; trying again would not help
EXIT_NO_MEMORY = 43  # there was not the memory that was free a moment ago
EXIT_UNREAD = 44  # the model could not be read to its end, which may pass
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 4


def main() -> None:
    """`python -m appliance.engine.child LINK BUFFER PARENT`: descriptors of socket and memory, and the parent's id."""
    link = socket.socket(fileno=int(sys.argv[1]))
    _restrict(int(sys.argv[3]))
    pulse = Pulse(int(sys.argv[2]), BUFFER_BYTES)
    pulse.start()
    order = json.loads(link.recv(65_536))
    try:
        from appliance.engine.weights import LoadFailed, NoMemory
    except ModuleNotFoundError:
        sys.exit(EXIT_MISSING)
    try:
        # Nothing else holds the reader: with the load its memory goes too.
        model, serve = _loaded(RemoteReader(link, int(sys.argv[2]), order["size"]), order)
    except NoMemory as error:
        report(link, {"failed": str(error)})
        sys.exit(EXIT_NO_MEMORY)
    except LoadFailed as error:
        report(link, {"failed": str(error)})
        sys.exit(EXIT_REFUSED)
    except OSError as error:
        report(link, {"failed": str(error)})
        sys.exit(EXIT_UNREAD)
    pulse.count_nodes(model.context)
    serve(order, pulse, lambda state, reason: report(link, {state: True, "reason": reason, "device": model.device}))


def _loaded(reader: RemoteReader, order: dict[str, Any]) -> tuple[Any, Callable[..., None]]:
    """Loads the model for what it serves, and only the code for that."""
    plan = Plan(**order["plan"])
    if order["serves"] == CHAT:
        from appliance.engine import wire
        from appliance.engine.model import Model

        model = Model(reader, plan)
        return model, partial(wire.serve, model)
    from appliance.engine import pooled_wire
    from appliance.engine.pooled import PooledModel

    pooled = PooledModel(reader, plan, order["serves"])
    return pooled, partial(pooled_wire.serve, pooled)


def _restrict(parent: int) -> None:
    """No network, core dumps or ptrace by others of this user; no end before the parent's word and no life after it."""
    leave_network()
    first_to_go()  # while the file is still its own
    libc: Any = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Ctrl-C and a service manager's SIGTERM reach the whole group; the parent lets answers finish, then says STOP.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if os.getppid() != parent:  # it died before the signal was armed
        sys.exit(0)


if __name__ == "__main__":
    main()
