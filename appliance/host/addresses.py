"""By which names and addresses clients may reach this machine."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from contextlib import suppress
from pathlib import Path

_SIOCGIFADDR = 0x8915  # netdevice(7): the IPv4 address of an interface, in a struct ifreq
_IFREQ_BYTES, _ADDRESS = 40, slice(20, 24)
_V6_TABLE = Path("/proc/net/if_inet6")


def own_hosts() -> tuple[str, ...]:
    """Returns the host name and all addresses that are not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        found = [_v4_address(probe, name) for _, name in socket.if_nameindex()]
    if _V6_TABLE.exists():
        rows = [line.split() for line in _V6_TABLE.read_text().splitlines()]
        found += [str(ipaddress.IPv6Address(bytes.fromhex(row[0]))) for row in rows]
    addresses = [text for text in found if text is not None and _reaches_out(text)]
    return tuple(dict.fromkeys([socket.gethostname(), *addresses]))


def _v4_address(probe: socket.socket, interface: str) -> str | None:
    with suppress(OSError):  # an interface without an address
        reply = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack(f"{_IFREQ_BYTES}s", interface.encode()))
        return socket.inet_ntoa(reply[_ADDRESS])
    return None


def _reaches_out(text: str) -> bool:
    address = ipaddress.ip_address(text)
    return not (address.is_loopback or address.is_link_local)
