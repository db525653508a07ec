"""The systemd unit of a box: its own user, a sandbox, a watchdog, started again whatever happens. Pure.

Directives as in systemd.exec(5) and systemd.service(5) of version 252, which Debian 12 has.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from appliance.store.slots import MACHINE_CREDENTIAL
from appliance.store.systemd_creds import NAME
from bundler.format.errors import BadInput

UNIT_FILE = Path("/etc/systemd/system/lifeboat.service")

# The loop of the supervisor feeds it every five seconds.
_WATCHDOG_S = 60
# What is being answered has 30 seconds to end, an engine a few more.
_STOP_S = 75
_TEXT = """\
# Written by `lifeboat-appliance unit`; change its options there, since a refresh of the software writes it again.
[Unit]
Description=Lifeboat: answers when the cloud does not
After=network.target
# Started again for ever: a box that gives up after five tries is dark until somebody comes.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
User={user}
Group={user}
{credential}ExecStart={program} serve --state {state} --programs {programs} --host {host} --port {port}{options}
Restart=always
RestartSec=1
WatchdogSec={watchdog_s}
TimeoutStartSec=infinity
TimeoutStopSec={stop_s}
# The supervisor gets SIGTERM and ends its processes itself; what is left after that is killed.
KillMode=mixed
# A model that takes too much memory ends alone; the rest serves on.
OOMPolicy=continue
UMask=0077
LimitCORE=0
LimitNOFILE=65536
# Content in memory must not reach a swap file.
MemorySwapMax=0

StateDirectory={state_directory}
StateDirectoryMode=0700
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
{devices}
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
RemoveIPC=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @mount @swap @reboot @module @raw-io @clock @debug
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""
_NO_DEVICES = "PrivateDevices=yes\nMemoryDenyWriteExecute=yes"
# The driver compiles kernels into memory that it runs, and wants its own devices.
_NVIDIA = """\
DevicePolicy=closed
DeviceAllow=/dev/nvidiactl rw
DeviceAllow=/dev/nvidia-uvm rw
DeviceAllow=/dev/nvidia-uvm-tools rw
DeviceAllow=char-nvidia-frontend rw
DeviceAllow=char-nvidia rw"""
_STATES = Path("/var/lib")
# systemd.exec(5): ProtectHome= makes the first three empty, PrivateTmp= the others.
_HIDDEN = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))  # noqa: S108 - compared with, not used
_PLACE = "such as /opt/lifeboat/VERSION/bin/lifeboat-appliance"


@dataclass(frozen=True)
class Service:
    """What differs from box to box.

    Attributes:
        program: The program to run, absolute.
        programs: Where the versions of the program are installed, absolute.
        state: The state folder, under /var/lib.
        user: Whom it runs as.
        host: Address to listen on.
        port: Port to listen on.
        gpu: Whether a GPU of NVIDIA is to be reached.
        sealed: Whether the seal has a credential that the service manager is to open.
        names: Further names by which clients reach the box.
        tls: The files of a certificate of the operator's own and of its key, both or none.
    """

    program: Path
    programs: Path
    state: Path
    user: str
    host: str
    port: int
    gpu: bool
    sealed: bool = False
    names: tuple[str, ...] = ()
    tls: tuple[Path, ...] = ()


def unit_text(service: Service) -> str:
    """Returns the unit.

    Raises:
        BadInput: The state is not under /var/lib, the unit would hide the program, or a value is not one plain word.
    """
    for name, word in (
        ("--user", service.user),
        ("--host", service.host),
        *(("--name", each) for each in service.names),
    ):
        _check_word(name, word)
    for path in service.tls:
        _check_place(path, "the file", "such as /etc/lifeboat/tls, where the service's user can read it")
    check_program(service.program)
    check_program(service.programs)
    _check_word("--state", str(service.state))
    if not service.state.is_relative_to(_STATES) or service.state == _STATES or ".." in service.state.parts:
        raise BadInput(
            f"--state {service.state} is not a folder under {_STATES}, the one place that the unit may write to",
            f"choose a state such as {_STATES / 'lifeboat'}",
        )
    credential = f"LoadCredentialEncrypted={NAME}:{service.state}/keys/seal/{MACHINE_CREDENTIAL}\n"
    return _TEXT.format(
        credential=credential if service.sealed else "",
        user=service.user,
        program=service.program,
        programs=service.programs,
        state=service.state,
        state_directory=service.state.relative_to(_STATES),
        host=service.host,
        port=service.port,
        options=_options(service),
        devices=_NVIDIA if service.gpu else _NO_DEVICES,
        watchdog_s=_WATCHDOG_S,
        stop_s=_STOP_S,
    )


def _options(service: Service) -> str:
    names = [f" --name {name}" for name in service.names]
    files = [f" {option} {path}" for option, path in zip(("--tls-cert", "--tls-key"), service.tls, strict=False)]
    return "".join((*names, *files))


def check_program(program: Path) -> None:
    """Raises BadInput for a program, or an interpreter, that the unit's sandbox hides or that is no plain word."""
    _check_place(program, "the program", f"install the program elsewhere, {_PLACE}, and name it with --program")


def _check_place(path: Path, what: str, hint: str) -> None:
    _check_word(what, str(path))
    if not path.is_absolute() or ".." in path.parts:
        raise BadInput(f"{what} {path} is not named by its full path", hint)
    hidden = next((folder for folder in _HIDDEN if path.is_relative_to(folder)), None)
    if hidden is not None:
        raise BadInput(f"{what} {path} lies under {hidden}, which the unit hides from the service", hint)


def options_of(unit: str) -> dict[str, str]:
    """Returns the options of `serve` in a unit's text, by their names without dashes."""
    line = next((line for line in unit.splitlines() if line.startswith("ExecStart=")), "")
    words = line.removeprefix("ExecStart=").split()
    return {name[2:]: value for name, value in pairwise(words) if name.startswith("--") and not value.startswith("--")}


def _check_word(name: str, word: str) -> None:
    if not word or not word.isprintable() or set(word) & set(" \t\"'%$\\;"):
        raise BadInput(f"{name} {word!r} is not one plain word", "no spaces, quotes, '%', '$', ';' or backslashes")
