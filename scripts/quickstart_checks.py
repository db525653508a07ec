"""What quickstart needs of a machine: looked at before anything is downloaded, and stated in minutes and sizes."""

from __future__ import annotations

import errno
import shutil
import socket
from pathlib import Path

from environment import Environment, SetupFailed, ensure_packages, missing_packages

GB = 10**9
# What a whole first run takes with the build of llama-cpp-python, and what a later one may write.
DISK_FIRST, DISK_AGAIN = 4 * GB, GB // 2
MEMORY_BYTES = 3 * GB


def say_what_will_happen(environment: Environment, folder: Path) -> None:
    """States the work ahead, before it starts."""
    if environment.is_complete() and (folder / "state").exists():
        print("== everything is here from an earlier run: this takes seconds and no network")
        return
    kind = "an NVIDIA GPU: the GPU packages" if environment.requirements == "gpu" else "no GPU: the CPU packages"
    print(f"== Lifeboat quickstart; this machine has {kind} are taken")
    print("   1. a Python environment        about 400 MB to download, about 1 minute")
    print("   2. the demo's two models       about 180 MB to download")
    print("   3. bundle, install, story      about 2 minutes")
    if not environment.has("llama"):
        print("   meanwhile llama-cpp-python is built from source: about 80 MB to download, 4 to 6 minutes on 2 cores")
    print(
        f"   everything goes to {folder} (about {DISK_FIRST / GB:.0f} GB) and is removed by scripts/quickstart --clean"
    )


def ensure(environment: Environment, folder: Path, port: int) -> None:
    """Looks at disk, memory, port and compiler, and installs missing Debian packages where it may.

    Raises:
        SetupFailed: Something is not as it must be; everything that is wrong is named at once.
    """
    free = shutil.disk_usage(folder.parent).free
    need = DISK_AGAIN if environment.is_complete() else DISK_FIRST
    wrong = []
    if free < need:
        wrong.append(f"disk: {need / GB:.1f} GB are needed at {folder.parent}, {free / GB:.1f} GB are free")
    if (memory := available_memory(Path("/proc/meminfo").read_text())) < MEMORY_BYTES:
        wrong.append(f"memory: {MEMORY_BYTES / GB:.0f} GB are needed, {memory / GB:.1f} GB are available")
    if port and not is_free(port):
        wrong.append(f"port {port} is taken: leave --port out and a free one is chosen")
    if wrong:
        raise SetupFailed("this machine is not ready\n  - " + "\n  - ".join(wrong))
    print(f"   disk {free / GB:.0f} GB free, memory {memory / GB:.0f} GB available: fine", flush=True)
    ensure_packages(missing_packages(environment))


def available_memory(meminfo: str) -> int:
    """Returns the bytes that new programs can use, from the text of /proc/meminfo."""
    fields = dict(line.split(":", 1) for line in meminfo.splitlines() if ":" in line)
    return int(fields["MemAvailable"].split()[0]) * 1024


def is_free(port: int) -> bool:
    """Tells whether a port of loopback can be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def free_port() -> int:
    """Returns a port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
