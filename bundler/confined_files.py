"""What of the file system a confined child may still open by path: what Python and its libraries load, and no more.

By Landlock (landlock(7), linux/landlock.h): no privilege, no namespace, and it binds root. It forbids to open, list,
make and remove; names and sizes can still be asked for, and files that are open already stay so.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every machine
_VERSION, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE, _MAKE_DIR, _MAKE_REG = (1 << 4) | (1 << 5), 1 << 7, 1 << 8
_REFER, _TRUNCATE = 1 << 13, 1 << 14
# All that the version of Landlock knows; the later ones (of devices, the network) are the filter's matter.
_KNOWN = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1}
_READ = _READ_FILE | _READ_DIR
_CHANGE = _READ | _WRITE_FILE | _REMOVE | _MAKE_DIR | _MAKE_REG | _REFER | _TRUNCATE
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE

# What the C library, OpenSSL and the libraries of numbers read when they start.
SYSTEM = (
    "/usr", "/lib", "/lib64", "/nix/store",
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/timezone", "/etc/mime.types",
    "/etc/ssl/openssl.cnf", "/etc/pki/tls/openssl.cnf", "/etc/crypto-policies", "/etc/nsswitch.conf", "/etc/passwd",
    "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/filesystems", "/proc/version", "/proc/sys/vm",
    "/proc/sys/kernel", "/sys/devices/system", "/sys/fs/cgroup", "/dev/urandom", "/dev/random", "/dev/zero",
)  # fmt: skip
_SINK = "/dev/null"
_PACKAGES = {"site-packages", "dist-packages"}


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def leave_files(target: str, folders: Sequence[str]) -> str:
    """Keeps nothing but what is loaded from, and `folders`; no_new_privs must be set. Returns why not, or "".

    Args:
        target: The module that will be imported.
        folders: Folders whose files the child may read, make, change and remove.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = _called(libc, _CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    if version < 1:
        return f"Landlock: {os.strerror(ctypes.get_errno())}"
    handled = _KNOWN[min(version, max(_KNOWN))]
    attribute = ctypes.c_uint64(handled)
    rules = _called(libc, _CREATE_RULESET, ctypes.byref(attribute), ctypes.c_size_t(8), ctypes.c_uint32(0))
    if rules < 0:
        return f"landlock_create_ruleset: {os.strerror(ctypes.get_errno())}"
    try:
        allowed = [(_READ, (*SYSTEM, *_loaded_from(target))), (_READ_FILE | _WRITE_FILE, (_SINK,)), (_CHANGE, folders)]
        for rights, paths in allowed:
            for path in paths:
                _allow(libc, rules, rights & handled, path)
        if _called(libc, _RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint32(0)) != 0:
            return f"landlock_restrict_self: {os.strerror(ctypes.get_errno())}"
    finally:
        os.close(rules)
    return ""


def _loaded_from(target: str) -> Iterator[str]:
    """Yields where modules lie; a folder of the operator's that is on the path by accident is none of them."""
    yield from {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
    yield from (entry for entry in sys.path if Path(entry).name in _PACKAGES)
    yield from _parts_of(target.partition(".")[0])
    yield from _parts_of(__name__.partition(".")[0])


def _parts_of(package: str) -> Iterable[str]:
    found = importlib.util.find_spec(package)
    if found is None:
        return ()
    return found.submodule_search_locations or filter(None, [found.origin])


def _allow(libc: ctypes.CDLL, rules: int, rights: int, path: str) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # what this machine does not have needs no rule
        return
    try:
        # The kernel refuses rights of folders for a file.
        kept = rights if Path(path).is_dir() else rights & _OF_FILES
        rule = _PathBeneath(kept, descriptor)
        words = (ctypes.c_int(rules), ctypes.c_int(_PATH_BENEATH), ctypes.byref(rule), ctypes.c_uint32(0))
        if _called(libc, _ADD_RULE, *words) != 0:
            raise OSError(ctypes.get_errno(), f"landlock_add_rule: {os.strerror(ctypes.get_errno())}", path)
    finally:
        os.close(descriptor)


def _called(libc: ctypes.CDLL, number: int, *words: object) -> int:
    return int(libc.syscall(ctypes.c_long(number), *words))
