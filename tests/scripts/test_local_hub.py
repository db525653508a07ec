"""The local hub speaks to huggingface-hub's real client as the hub does."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import GatedRepoError, RemoteEntryNotFoundError, RepositoryNotFoundError

LARGE = bytes(range(256)) * 20_000


@pytest.fixture
def api(local_hub: Any) -> HfApi:
    return HfApi(endpoint=local_hub.endpoint, token=False)


def test_the_client_downloads_both_kinds_of_files(local_hub: Any, api: HfApi, tmp_path: Path) -> None:
    """A large file comes from the second origin without the token, a small one from the hub itself."""
    files = {"model.gguf": LARGE, "config.json": b"{}"}
    commit = local_hub.add("org/name", files, card={"license": "mit"}, token="hf_x")
    for name, data in files.items():
        got = hf_hub_download("org/name", name, cache_dir=tmp_path, endpoint=local_hub.endpoint, token="hf_x")
        assert Path(got).read_bytes() == data
        assert commit in got
    stores = [asked for asked in local_hub.asked if asked.stage == "store"]
    assert [asked.authorization for asked in stores] == [""]
    assert local_hub.sent_bytes == len(LARGE) + 2


def test_the_client_reads_info_and_tree(local_hub: Any, api: HfApi) -> None:
    """Commit, licence, sizes and both kinds of digests are where the client looks for them; pages are followed."""
    many = {f"part/{number:05d}.txt": b"x" for number in range(2_500)}
    commit = local_hub.add("org/name", {"model.gguf": LARGE, **many}, card={"license": "mit"})
    local_hub.repositories["org/name"].tags["v1"] = local_hub.repositories["org/name"].at("main")
    info = api.model_info("org/name", revision="v1")
    assert (info.sha, info.card_data and info.card_data.license) == (commit, "mit")
    rows = {row.path: row for row in api.list_repo_tree("org/name", revision=commit, recursive=True)}
    assert len(rows) == 2_502
    assert rows["model.gguf"].lfs.sha256 == hashlib.sha256(LARGE).hexdigest()  # type: ignore[union-attr]
    assert rows["part/00000.txt"].blob_id == hashlib.sha1(b"blob 1\0x").hexdigest()  # type: ignore[union-attr]


def test_the_client_hears_the_hubs_refusals(local_hub: Any, api: HfApi, tmp_path: Path) -> None:
    """A missing file, a gated repository and an unknown one are the errors that the client knows."""
    local_hub.add("org/open", {"a": b"a"})
    local_hub.add("org/gated", {"a": b"a"}, gated=True, token="hf_x")
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download("org/open", "b", cache_dir=tmp_path, endpoint=local_hub.endpoint)
    with pytest.raises(GatedRepoError):
        api.model_info("org/gated")
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("org/none")


def test_a_large_file_is_made_and_resumed(local_hub: Any, load_script: Callable[[str], Any], tmp_path: Path) -> None:
    """A cut download continues with the last whole 10 MiB that the client kept, and made bytes are always the same."""
    made = load_script("hub_repositories").Made(30_000_000)
    fault = load_script("hub_faults").Fault
    local_hub.add("org/big", {"model.gguf": made})
    local_hub.break_(fault("cut", at_bytes=20 * 2**20 + 5))
    got = hf_hub_download("org/big", "model.gguf", cache_dir=tmp_path, endpoint=local_hub.endpoint)
    assert hashlib.sha256(Path(got).read_bytes()).hexdigest() == made.sha256
    assert local_hub.sent_bytes == 30_000_005
    assert [asked.range for asked in local_hub.asked if asked.stage == "store"] == ["", "bytes=20971520-"]


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        (b"---\nlicense: apache-2.0\ntags:\n- license: mit\n---\n# A model\n", "apache-2.0"),
        (b"---\nlicense: 'llama3.1'\nlicense_name: x\n---\n", "llama3.1"),
        (b"# A model\nlicense: mit\n", None),
        (b"---\nlicense: mit\n", None),
        (b"", None),
    ],
)
def test_a_card_is_the_front_matter_of_the_readme(local_hub: Any, api: HfApi, text: bytes, licence: str | None) -> None:
    """The client finds the licence that the README.md of the commit declares, and none where it declares none."""
    commit = local_hub.add("org/name", {"README.md": text})
    card = api.model_info("org/name", revision=commit).card_data
    assert (card and card.get("license")) == licence


def test_the_command_line_serves_a_folder_with_a_large_file_and_a_card(repo_root: Path, tmp_path: Path) -> None:
    """All that is said of one repository is one commit of it; the licence is where the client looks for it."""
    (tmp_path / "config.json").write_text("{}")
    words = ["--repository", f"org/name={tmp_path}", "--large", "org/name/m.gguf=3000", "--licence", "org/name=mit"]
    command = [sys.executable, str(repo_root / "scripts" / "local_hub.py"), *words, "--for", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            hub = HfApi(endpoint=json.loads(process.stdout.readline())["endpoint"], token=False)
            info = hub.model_info("org/name")
        finally:
            process.kill()
    assert {row.rfilename for row in info.siblings or []} == {"README.md", "config.json", "m.gguf"}
    assert (info.card_data and info.card_data.license) == "mit"


def test_the_command_line_says_what_it_cannot_read(repo_root: Path) -> None:
    """A word without a value ends with 2, and names the form."""
    command = [sys.executable, str(repo_root / "scripts" / "local_hub.py"), "--licence", "org/name"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'org/name' is not ORG/NAME=VALUE" in done.stderr
