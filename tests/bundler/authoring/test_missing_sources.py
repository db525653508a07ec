"""`profile check` looks whether the files of models, embedding models and vector stores are there."""

from __future__ import annotations

from pathlib import Path

from bundler.authoring.check import check_profile

SOUND = """
[bundle]
name = "mine"
title = "Mine"
[[model]]
name = "local"
source = "file:local.gguf"
licence = "MIT"
licence_file = "file:MIT.txt"
template = "file:base/chat_template.jinja"
signer_key = "file:maker.pem"
[embedding]
name = "minilm"
source = "file:minilm/"
licence = "MIT"
[[vectors]]
name = "folder"
source = "file:chroma"
embedding = "minilm"
[[vectors]]
name = "index"
source = "file:rows.faiss"
texts = "file:rows.jsonl"
embedding = "minilm"
"""
FILES = (
    "local.gguf",
    "MIT.txt",
    "base/chat_template.jinja",
    "maker.pem",
    "model.sig",
    "minilm/config.json",
    "minilm/tokenizer.json",
    "minilm/model.safetensors",
    "minilm/modules.json",
    "minilm/1_Pooling/config.json",
    "chroma/chroma.sqlite3",
    "rows.faiss",
    "rows.jsonl",
)


def _profile(folder: Path, text: str = SOUND) -> Path:
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "p.toml").write_text(text)
    return folder / "p.toml"


def _told(path: Path) -> list[str]:
    return [issue.replace(f"{path.parent}/", "") for issue in check_profile(path).issues]


def test_what_is_there_is_no_issue(tmp_path: Path) -> None:
    """Files are looked for and not read: these are empty."""
    assert _told(_profile(tmp_path)) == []


def test_each_missing_file_is_named_with_its_key(tmp_path: Path) -> None:
    """All of them at once, as the profile writes them and as they were looked for."""
    path = _profile(tmp_path)
    for name in FILES:
        (tmp_path / name).unlink()
    (tmp_path / "chroma").rmdir()
    told = _told(path)
    assert told[:5] == [
        "[[model]] local: source: file:local.gguf does not exist (looked at local.gguf)",
        "[[model]] local: template: file:base/chat_template.jinja does not exist (looked at base/chat_template.jinja)",
        "[[model]] local: licence_file: file:MIT.txt does not exist (looked at MIT.txt)",
        "[[model]] local: signer_key: file:maker.pem does not exist (looked at maker.pem)",
        "[[model]] local: signature: file:model.sig does not exist (looked at model.sig)",
    ]
    assert [line.partition(" does not")[0] for line in told[5:]] == [
        *(f"[embedding] minilm: source: file:{name}" for name in FILES[5:10]),
        "[[vectors]] folder: source: file:chroma",
        "[[vectors]] index: source: file:rows.faiss",
        "[[vectors]] index: texts: file:rows.jsonl",
    ]


def test_a_folder_in_place_of_a_file_and_the_other_way(tmp_path: Path) -> None:
    """What is there and of another kind is told as that."""
    changed = SOUND.replace("file:local.gguf", "file:base").replace("file:minilm/", "file:MIT.txt")
    told = _told(_profile(tmp_path, changed.replace("file:chroma", "file:local.gguf")))
    assert "[[model]] local: source: file:base is not a file (looked at base)" in told
    assert "[embedding] minilm: source: file:MIT.txt is no folder (looked at MIT.txt)" in told
    assert (
        '[[vectors]] folder: source: nothing tells what store file:local.gguf is: set kind = "faiss" or "jsonl"' in told
    )


def test_a_folder_without_its_slash_is_told(tmp_path: Path) -> None:
    """The build would look for `minilmconfig.json`."""
    told = _told(_profile(tmp_path, SOUND.replace("file:minilm/", "file:minilm")))
    assert told == ["[embedding] minilm: source: file:minilm is a folder: write file:minilm/"]


def test_an_artifact_without_a_file_is_told(tmp_path: Path) -> None:
    """The build would refuse it: as a model, and as the place of a signature, which nothing else looks at."""
    image = f"registry:registry.lan/acme/chat@sha256:{'0' * 64}"
    words = f"{image} names an image, and a file of an artifact is wanted: write {image}/FILE"
    path = _profile(tmp_path, SOUND.replace("file:local.gguf", image))
    assert _told(path) == [f"[[model]] local: source: {words}"]
    path.write_text(SOUND.replace("signer_key", f'signature = "{image}"\nsigner_key'))
    assert _told(path) == [f"[[model]] local: signature: {words}"]
    path.write_text(SOUND.replace("file:local.gguf", f"{image}/chat.gguf"))
    assert _told(path) == []


def test_what_is_no_source_is_told(tmp_path: Path) -> None:
    """A path without its scheme, which only the build met; a text of a licence does not come from a hub."""
    changed = SOUND.replace("file:local.gguf", "local.gguf").replace("file:MIT.txt", "hub:acme/texts/MIT.txt")
    told = _told(_profile(tmp_path, changed))
    assert told[0].startswith("[[model]] local: source: 'local.gguf' is not a source; write file:PATH, wheel:")
    assert any(line.startswith("[[model]] local: licence_file: hub:acme/texts/MIT.txt cannot hold") for line in told)
