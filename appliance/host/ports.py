"""Which process holds a TCP port, from /proc (proc(5), tcp and fd)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTEN = "0A"


def holder_of(port: int, proc: Path = Path("/proc")) -> str | None:
    """Returns who listens on a port in words, or None where it is free."""
    tables = (table.read_text(encoding="ascii") for table in _TABLES if table.exists())
    inodes = set(listening_inodes(tables, port))
    if not inodes:
        return None
    found = sorted({_named(process) for process in _processes(proc) if _holds(process, inodes)})
    return ", ".join(found) or "a process of another user (root sees which)"


def listening_inodes(tables: Iterable[str], port: int) -> Iterator[str]:
    """Yields the socket inodes that listen on a port; the tables are /proc/net/tcp and tcp6. Pure."""
    for table in tables:
        for line in table.splitlines()[1:]:
            words = line.split()
            if len(words) > 9 and words[3] == _LISTEN and int(words[1].rpartition(":")[2], 16) == port:
                yield words[9]


def _processes(proc: Path) -> Iterator[Path]:
    return (path for path in proc.iterdir() if path.name.isdigit())


def _holds(process: Path, inodes: set[str]) -> bool:
    with suppress(OSError):  # it has ended, or is another user's
        for link in (process / "fd").iterdir():
            with suppress(OSError):
                if link.readlink().name.removeprefix("socket:[").removesuffix("]") in inodes:
                    return True
    return False


def _named(process: Path) -> str:
    try:
        name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        name = "a process"
    return f"{name} (process {process.name})"
