"""A box dies: its backup, the recovery card, the same stick and the same site card bring it back."""

import json
import shutil
import subprocess
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from appliance.edge.tokens import TokenStore
from appliance.host.authority import authority_fingerprint
from appliance.store.layout import StateLayout
from appliance.store.seal import Seal
from appliance.store.secrets import Secrets

pytestmark = [pytest.mark.llm, pytest.mark.timeout(600)]


@dataclass(frozen=True)
class Lost:
    """What is left of a box: its backup, a token that a client has, and the CA that clients know."""

    backup: Path
    token: str
    authority: str


@pytest.fixture(scope="module")
def lost(customer: Any, tmp_path_factory: pytest.TempPathFactory) -> Lost:
    folder = tmp_path_factory.mktemp("lost")
    state = folder / "state"
    shutil.copytree(customer.pristine, state, symlinks=True)
    done = customer.install(customer.repository, state)
    assert done.returncode == 0, done.stderr
    token = json.loads(customer.must("appliance", "token", "create", "desk", "--state", state, "--json"))["token"]
    (folder / "key").write_text("sk-cloud-1\n")
    customer.must("appliance", "secret", "set", "cloud", "--file", folder / "key", "--state", state)
    told = customer.must("appliance", "backup", folder / "backup.age", "--state", state)
    assert "this box cannot open it" in told
    authority = authority_fingerprint(StateLayout(state), datetime.now(UTC))
    shutil.rmtree(state)
    return Lost(folder / "backup.age", token, authority)


def hand_on(customer: Any, backup: Path, out: Path, site: str = "bristol") -> Any:
    words = ("site", "restore", backup, out, "--site", site, "--repository", customer.repository)
    return customer.run("bundler", *words, "--recovery-code-file", customer.recovery)


def restore(customer: Any, medium: Path, state: Path, backup: Path) -> subprocess.CompletedProcess[str]:
    words = ("install", medium, "--state", state, "--site", "bristol", "--site-code-file", customer.code)
    done: subprocess.CompletedProcess[str] = customer.run("appliance", *words, "--restore", backup)
    return done


def test_a_dead_box_comes_back_with_its_tokens_secrets_and_ca(customer: Any, lost: Lost, tmp_path: Path) -> None:
    """Clients notice nothing: their token and their CA hold; the same command again is nothing to do."""
    assert hand_on(customer, lost.backup, tmp_path / "on.age").returncode == 0
    state = tmp_path / "state"
    for _ in range(2):
        done = restore(customer, customer.repository, state, tmp_path / "on.age")
        assert done.returncode == 0, done.stderr
    assert "taken over the backup already" in done.stderr
    layout = StateLayout(state)
    assert TokenStore(layout.tokens).check(lost.token, "use", now_s=time.time())
    assert Secrets(Seal(layout.keys)).read() == {"cloud": "sk-cloud-1"}
    assert authority_fingerprint(layout, datetime.now(UTC)) == lost.authority
    assert Seal(layout.keys).slots.recovery
    assert "GREEN" in done.stderr


def test_a_restored_box_takes_nothing_older(customer: Any, lost: Lost, tmp_path: Path) -> None:
    """The lost box had seen newer metadata than this medium has: its memory comes back before the medium is read."""
    assert hand_on(customer, lost.backup, tmp_path / "on.age").returncode == 0
    done = restore(customer, customer.first, tmp_path / "state", tmp_path / "on.age")
    assert done.returncode == 13, done.stderr
    assert not Seal(StateLayout(tmp_path / "state").keys).enrolled


def test_what_is_not_this_site_s_backup_is_refused(customer: Any, lost: Lost, tmp_path: Path) -> None:
    """As the box wrote it, of another site, damaged, onto a box that lives: an exit code each, and nothing is there."""
    state = tmp_path / "state"
    raw = restore(customer, customer.repository, state, lost.backup)
    assert raw.returncode == 17, raw.stderr
    assert "lifeboat site restore" in raw.stderr
    assert hand_on(customer, lost.backup, tmp_path / "on.age", "leeds").returncode == 3
    assert hand_on(customer, lost.backup, tmp_path / "on.age").returncode == 0
    data = bytearray((tmp_path / "on.age").read_bytes())
    data[-1] ^= 1
    (tmp_path / "bad.age").write_bytes(data)
    damaged = restore(customer, customer.repository, state, tmp_path / "bad.age")
    assert damaged.returncode == 14, damaged.stderr
    assert not Seal(StateLayout(state).keys).enrolled
    assert not StateLayout(state).tokens.exists()
    shutil.copytree(customer.pristine, tmp_path / "alive", symlinks=True)
    living = Seal(StateLayout(tmp_path / "alive").keys)
    living.store(replace(living.open(), version_secret="f" * 64))  # enrolled another time than the lost box
    alive = restore(customer, customer.repository, tmp_path / "alive", tmp_path / "on.age")
    assert alive.returncode == 3, alive.stderr
    assert "enrolled already" in alive.stderr


def test_the_recovery_card_reopens_a_box_whose_machine_slot_is_gone(customer: Any, tmp_path: Path) -> None:
    """A cleared TPM or a moved disk: the MSP opens the recovery slot, and the box seals everything anew."""
    state = tmp_path / "state"
    shutil.copytree(customer.pristine, state, symlinks=True)
    folder = Seal(StateLayout(state).keys).folder
    (folder / "machine.key").unlink()
    shut = customer.run("appliance", "status", "--state", state)
    assert shut.returncode == 14, shut.stderr
    given = ("--repository", customer.repository, "--recovery-code-file", customer.recovery)
    customer.must("bundler", "site", "unseal", folder / "recovery.slot", tmp_path / "key", *given)
    told = customer.must(
        "appliance", "seal", "renew", "--machine", "file", "--key-file", tmp_path / "key", "--state", state
    )
    assert "everything is sealed under a fresh key" in told
    customer.must("appliance", "status", "--state", state)
    again = customer.run("appliance", "seal", "renew", "--key-file", tmp_path / "key", "--state", state)
    assert again.returncode == 14, again.stderr
