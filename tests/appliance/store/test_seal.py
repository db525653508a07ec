"""The slots of a seal: what opens it, what a renewal leaves, and real credentials of systemd."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.host.reseal import reseal
from appliance.store import systemd_creds
from appliance.store.layout import StateLayout
from appliance.store.seal import Seal, SiteSecrets
from appliance.store.secrets import Secrets, stamp
from appliance.store.slots import KEY_FILE, SealPlan, Slots, asking
from appliance.store.systemd_creds import HOST, TPM2
from bundler.files import exclusive, write_atomic
from bundler.format import age, canonical
from bundler.format.errors import BadBundle, BadInput, Busy, NotReady, WrongKey
from bundler.format.record import to_json

RECOVERY = age.X25519Identity.generate()
SITE = SiteSecrets("bristol", "msp", "repo", "a" * 64, "AGE-SECRET-KEY-1", "b" * 64, "c" * 64, str(RECOVERY.recipient))
PASSPHRASE = "a dozen characters"
SHUTDOWN = bytes.fromhex("80010000000c000001450000")  # TPM2_Shutdown(TPM_SU_CLEAR)
needs_creds = pytest.mark.skipif(
    shutil.which("systemd-creds") is None or os.geteuid() != 0, reason="systemd-creds is not installed, or no root"
)


@pytest.fixture
def layout(tmp_path: Path) -> StateLayout:
    made = StateLayout(tmp_path / "state")
    made.make()
    Seal(made.keys).store(SITE)
    Secrets(Seal(made.keys)).put("cloud", "sk-1")
    return made


def changed(layout: StateLayout, **fields: object) -> Slots:
    return reseal(layout, lambda plan: replace(plan, work_factor_log2=10, **fields))  # type: ignore[arg-type]


def test_a_new_seal_has_the_slots_of_machine_and_recovery(layout: StateLayout) -> None:
    """Two slots from the first day; the recovery site's own key opens one of them, and nothing else is needed."""
    seal = Seal(layout.keys)
    assert seal.slots == Slots((KEY_FILE,), recovery=True, passphrase=False)
    key = age.decrypt((seal.folder / "recovery.slot").read_bytes(), [RECOVERY], limit_bytes=4096).decode()
    (seal.folder / "machine.key").unlink()
    with pytest.raises(BadBundle, match="slot of this machine"):
        Seal(layout.keys).open()
    assert Seal(layout.keys, key=key).open() == SITE


def test_a_box_without_its_slot_is_opened_by_the_recovery_card(layout: StateLayout) -> None:
    """What the card gives makes all slots anew, and is worth nothing afterwards."""
    seal = Seal(layout.keys)
    key = seal.key()
    (seal.folder / "machine.key").unlink()
    with pytest.raises(BadInput, match="no key of a seal"):
        reseal(layout, lambda plan: plan, "AGE-SECRET-KEY-1WRONG")
    with pytest.raises(BadBundle):
        reseal(layout, lambda plan: plan, str(age.X25519Identity.generate()))
    assert reseal(layout, lambda plan: replace(plan, machine=KEY_FILE), key).machine == (KEY_FILE,)
    assert Secrets(Seal(layout.keys)).read() == {"cloud": "sk-1"}
    with pytest.raises(BadBundle):
        Seal(layout.keys, key=key).open()


def test_the_first_layout_opens_and_is_renewed(tmp_path: Path) -> None:
    """A state from before there were slots: read as it is, and moved by a renewal, of which nothing old is left."""
    layout = StateLayout(tmp_path / "state")
    layout.make()
    key = age.X25519Identity.generate()
    old = replace(SITE, recovery="")
    write_atomic(layout.keys / "machine.key", str(key).encode())
    for name, data in (("site", canonical.encode(to_json(old))), ("secrets", canonical.encode({"cloud": "sk-1"}))):
        write_atomic(layout.keys / f"{name}.age", age.encrypt(data, [key.recipient]))
    seal = Seal(layout.keys)
    assert seal.enrolled
    assert seal.open() == old
    Secrets(seal).put("other", "sk-2")
    assert changed(layout, recovery=str(RECOVERY.recipient)) == Slots((KEY_FILE,), recovery=True, passphrase=False)
    assert Seal(layout.keys).open() == SITE
    assert Secrets(Seal(layout.keys)).read() == {"cloud": "sk-1", "other": "sk-2"}
    assert {path.name for path in layout.keys.iterdir()} == {"seal", "seals", "seal.lock"}


def test_a_renewal_leaves_nothing_of_before(layout: StateLayout) -> None:
    """One folder, another key, the same secrets; an open seal notices, and so does who watches the secrets."""
    seal, key, before = Seal(layout.keys), Seal(layout.keys).key(), stamp(layout.keys)
    assert seal.open() == SITE
    changed(layout)
    assert [path.name for path in (layout.keys / "seals").iterdir()] == ["2"]
    assert seal.open() == SITE
    assert stamp(layout.keys) != before
    assert Seal(layout.keys).key() != key
    data = (Seal(layout.keys).folder / "site.age").read_bytes()
    with pytest.raises(age.NoMatch):
        age.decrypt(data, [age.parse_identity(key)], limit_bytes=4096)


def test_a_passphrase_wants_somebody(layout: StateLayout) -> None:
    """With it alone nothing opens unless it is asked for; a wrong one is told; it is asked for at each renewal."""
    with pytest.raises(BadInput, match="at least 12"):
        changed(layout, passphrase="short")
    assert changed(layout, passphrase=PASSPHRASE).passphrase
    assert Seal(layout.keys).open() == SITE
    with asking(lambda: PASSPHRASE):
        assert changed(layout, machine=None) == Slots((), recovery=True, passphrase=True)
    with pytest.raises(NotReady, match="nobody is there"):
        Seal(layout.keys).open()
    with asking(lambda: "another passphrase"), pytest.raises(WrongKey):
        Seal(layout.keys).open()
    with asking(lambda: PASSPHRASE):
        assert Seal(layout.keys).open() == SITE
        with pytest.raises(BadInput, match="nothing at this box"):
            changed(layout, passphrase=None)
        assert changed(layout, machine=KEY_FILE, passphrase=None) == Slots((KEY_FILE,), recovery=True, passphrase=False)


def test_a_plan_that_cannot_be_changes_nothing(layout: StateLayout) -> None:
    """A recipient that is none is refused before anything is written."""
    before = {path: path.read_bytes() for path in layout.keys.rglob("*") if path.is_file()}
    with pytest.raises(BadInput, match="no recipient"):
        changed(layout, recovery="age1nobody")
    assert {path: path.read_bytes() for path in layout.keys.rglob("*") if path.is_file()} == before


def test_what_serves_keeps_its_key(layout: StateLayout) -> None:
    """While a box serves, its seal is renewed where each process reads the key file, not where it was given a key."""
    with exclusive(layout.serving, ""):
        assert changed(layout).machine == (KEY_FILE,)
        with pytest.raises(Busy, match="given the seal's key"):
            changed(layout, machine=None, passphrase=PASSPHRASE)


@needs_creds
def test_the_host_key_of_systemd_seals(layout: StateLayout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real tool: root opens it, a service by what PID 1 hands it, nobody else; a changed one is refused."""
    assert changed(layout, machine=HOST) == Slots((HOST,), recovery=True, passphrase=False)
    seal = Seal(layout.keys)
    assert not (seal.folder / "machine.key").exists()
    credential = seal.folder / "machine.cred"
    assert seal.key().encode() not in credential.read_bytes()
    assert Seal(layout.keys).open() == SITE
    handed = tmp_path / "credentials"
    handed.mkdir()
    # Stands for PID 1, which decrypts with the same tool's code and names the folder to the service.
    words = ["systemd-creds", "decrypt", f"--name={systemd_creds.NAME}", str(credential)]
    (handed / systemd_creds.NAME).write_bytes(subprocess.run(words, check=True, capture_output=True).stdout)
    with monkeypatch.context() as patched:
        patched.setattr(os, "geteuid", lambda: 1000)
        with pytest.raises(NotReady, match="in a service"):
            Seal(layout.keys).open()
        patched.setenv("CREDENTIALS_DIRECTORY", str(handed))
        assert Seal(layout.keys).open() == SITE
    data = credential.read_text()
    credential.write_text(data[:40] + ("A" if data[40] != "A" else "B") + data[41:])
    with pytest.raises(BadBundle, match="does not open its seal"):
        Seal(layout.keys).open()


def free_pair() -> int:
    """A free port whose follower is free: libtss2 takes that one for the control of a TPM2."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            with suppress(OSError):
                two.bind(("127.0.0.1", one.getsockname()[1] + 1))
                return int(one.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def tpm2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """A TPM2 in software, which systemd-creds takes for the machine's; the value clears it."""
    if shutil.which("swtpm") is None:
        pytest.skip("swtpm is not installed")
    state, port = tmp_path / "tpm", free_pair()
    state.mkdir()
    words = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--server", f"type=tcp,port={port}"]
    words += ["--ctrl", f"type=tcp,port={port + 1}", "--flags", "not-need-init,startup-clear"]
    monkeypatch.setenv("SYSTEMD_TPM2_DEVICE", f"swtpm:host=127.0.0.1,port={port}")
    running: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        running.append(subprocess.Popen(words, stderr=subprocess.DEVNULL))
        while not listens(port + 1):
            assert running[-1].poll() is None
            time.sleep(0.02)

    def stop() -> None:
        with socket.create_connection(("127.0.0.1", port)) as command:
            command.sendall(SHUTDOWN)  # a TPM that is reset without it takes that for an attack
            command.recv(10)
        running[-1].kill()
        running[-1].wait()

    def clear() -> None:
        stop()
        shutil.rmtree(state)
        state.mkdir()
        start()

    def after_a_reset(words: list[str], data: bytes) -> bytes:
        """Stands for the kernel's resource manager, which closes the sessions that systemd-creds leaves open."""
        stop()
        start()
        return really(words, data)

    really = systemd_creds._run
    monkeypatch.setattr(systemd_creds, "_run", after_a_reset)
    start()
    yield clear
    stop()


@needs_creds
def test_a_tpm2_seals_until_it_is_cleared(layout: StateLayout, tpm2: Callable[[], None]) -> None:
    """The real tool, a TPM2 in software: another TPM opens nothing, and the recovery card gets the box back."""
    assert changed(layout, machine=TPM2) == Slots((TPM2,), recovery=True, passphrase=False)
    assert Seal(layout.keys).open() == SITE
    key = Seal(layout.keys).key()
    tpm2()
    with pytest.raises(BadBundle, match="does not open its seal"):
        Seal(layout.keys).open()
    assert reseal(layout, lambda plan: plan, key).machine == (TPM2,)
    assert Seal(layout.keys).open() == SITE


@needs_creds
def test_a_credential_is_bound_to_its_name(layout: StateLayout) -> None:
    """Another service's credential on the same host does not pass for the seal's."""
    changed(layout, machine=HOST)
    words = ["systemd-creds", "encrypt", "--name=other", "--with-key=host", "-", "-"]
    key = Seal(layout.keys).key().encode()
    other = subprocess.run(words, input=key, check=True, capture_output=True).stdout
    (Seal(layout.keys).folder / "machine.cred").write_bytes(other)
    with pytest.raises(BadBundle, match="does not open its seal"):
        Seal(layout.keys).open()


@needs_creds
def test_without_a_tpm_a_seal_by_one_is_refused(layout: StateLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tool's own words, and the seal stays as it was."""
    monkeypatch.setenv("SYSTEMD_TPM2_DEVICE", "/dev/no-tpm")
    with pytest.raises(NotReady, match="systemd-creds encrypt"):
        changed(layout, machine=TPM2)
    assert Seal(layout.keys).slots.machine == (KEY_FILE,)


def test_kinds_of_credentials() -> None:
    """Read from the credential itself; what is none is of no kind."""
    assert systemd_creds.kind_of(b"WhxqhtQdJQ") == ()
    assert systemd_creds.kind_of(b"\xff\xfe") == ()


@pytest.mark.parametrize("write", [lambda seal: seal.store_file("secrets", b"{}"), lambda seal: seal.store(SITE)])
def test_what_a_killed_writer_left_goes(layout: StateLayout, write: Callable[[Seal], None]) -> None:
    """The next writer, who holds the lock, removes it."""
    seal = Seal(layout.keys)
    left = seal.folder / ".site.age.0123abcd.part"
    left.write_bytes(b"half")
    write(seal)
    assert not left.exists()


def test_slots_that_a_renewal_did_not_remove_go(layout: StateLayout) -> None:
    """A power cut after its one rename leaves them; whoever writes next removes them."""
    seal = Seal(layout.keys)
    left = layout.keys / "seals" / "9"
    shutil.copytree(seal.folder, left)
    seal.store_file("secrets", b"{}")
    assert not left.exists()
    assert seal.open() == SITE


def test_a_link_among_the_seals_is_not_followed(layout: StateLayout, tmp_path: Path) -> None:
    """What lies where it leads stays."""
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "x").write_bytes(b"x")
    (layout.keys / "seals" / "7").symlink_to(foreign)
    changed(layout)
    assert (foreign / "x").exists()
    assert [path.name for path in layout.keys.glob("seals/*")] == ["2"]


def test_a_plan_hides_its_passphrase() -> None:
    """Neither a traceback nor a log shows it."""
    assert PASSPHRASE not in repr(SealPlan(KEY_FILE, "", PASSPHRASE))
