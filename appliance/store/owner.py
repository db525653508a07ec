"""Root works on another user's state as that user.

That user's service faces the network. Whoever took it over could put links where root is about to write, change the
mode of a folder, or remove what is old, and no check before the deed helps, since the link may come after it. What
root alone can do is not done in the state: `as_root` is for that.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# linux/capability.h
_VERSION_3, _DAC_READ_SEARCH = 0x20080522, 1 << 2


@contextmanager
def as_owner(folder: Path) -> Iterator[None]:
    """Lets root write only what the owner of a folder may, within the block; for anybody else there is nothing to do.

    It goes on to read as root: desktops mount a stick so that one person may look into it, and a file that holds a
    secret is root's own.
    """
    owner = folder.stat() if folder.is_dir() else None
    if os.geteuid() != 0 or owner is None or owner.st_uid == 0:
        yield
        return
    groups = os.getgroups()
    os.setgroups([owner.st_gid])
    try:
        with _acting(owner.st_uid, owner.st_gid):
            yield
    finally:
        os.setgroups(groups)


@contextmanager
def as_root() -> Iterator[None]:
    """Gives back within `as_owner` what it took; what is done within writes nothing into the state."""
    real, effective, _ = os.getresuid()
    if real != 0 or effective == 0:
        yield
        return
    with _acting(0, os.getgid()):
        yield


@contextmanager
def _acting(user: int, group: int) -> Iterator[None]:
    before = os.getresuid()[1], os.getresgid()[1]
    _become(user, group)
    try:
        yield
    finally:
        _become(*before)


def _become(user: int, group: int) -> None:
    os.seteuid(0)  # who is not root may not change its group
    os.setegid(group)
    os.seteuid(user)
    if user != 0:
        _read_everything()


def _read_everything() -> None:
    """Takes CAP_DAC_READ_SEARCH back, which went with the user (capabilities(7)); threads that start now have it."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: the low words, and then the high ones
    if libc.capget(header, data) == 0 and data[1] & _DAC_READ_SEARCH:
        data[0] |= _DAC_READ_SEARCH
        libc.capset(header, data)
