"""Split models become one again, byte for byte, and parts that do not fit are refused."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bundler.capture.gguf import inspect
from bundler.capture.gguf_merge import merge
from bundler.format.errors import BadInput

SPEAKS = """
import sys
from llama_cpp import Llama

model = Llama(sys.argv[1], n_ctx=64, n_threads=2, verbose=False, seed=1)
print(model("The sea is", max_tokens=8, temperature=0)["choices"][0]["text"])
"""


@pytest.fixture(scope="session")
def parts_of(load_script: Callable[[str], Any], smollm_gguf: Path) -> Callable[..., dict[str, bytes]]:
    """The demo's chat model in parts: `(count, keys_first=False)`."""
    split = load_script("split_gguf").split
    return lambda count, **how: dict(split(smollm_gguf, "smollm", count, **how))


def _written(folder: Path, parts: dict[str, bytes]) -> list[Path]:
    for name, data in parts.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in parts]


@pytest.mark.parametrize(("count", "keys_first"), [(2, False), (5, False), (3, True), (1, False)])
def test_parts_become_the_model_that_was_split(
    tmp_path: Path, smollm_gguf: Path, parts_of: Callable[..., dict[str, bytes]], count: int, keys_first: bool
) -> None:
    """Whatever the number of parts, the whole is the file that it came from."""
    target = tmp_path / "whole.gguf"
    merge(_written(tmp_path, parts_of(count, keys_first=keys_first)), target)
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (target, smollm_gguf)]
    assert digests[0] == digests[1]
    assert inspect(target).architecture == "llama"


@pytest.mark.llm
def test_llama_cpp_loads_the_parts_and_the_whole(tmp_path: Path, parts_of: Callable[..., dict[str, bytes]]) -> None:
    """llama.cpp takes our parts for its own, and the merged model says what they say."""
    paths = _written(tmp_path, parts_of(3))
    target = tmp_path / "whole.gguf"
    merge(paths, target)
    said = []
    for path in (paths[0], target):
        # A process of its own: llama.cpp beside all the other native libraries of the tests has crashed.
        words = [sys.executable, "-c", SPEAKS, str(path)]
        said.append(subprocess.run(words, capture_output=True, text=True, check=True, timeout=240).stdout.strip())
    assert said[0] == said[1] != ""


def _edited(parts: dict[str, bytes], how: str) -> list[bytes]:
    one, two, three = parts.values()
    number = struct.pack("<Q", 8) + b"split.no" + struct.pack("<IH", 2, 1)
    return {
        "swapped": [one, three, two],
        "short": [one, two],
        "twice": [one, two, two.replace(number, number[:-2] + struct.pack("<H", 2))],
        "cut": [one, two, three[:-4096]],
        "longer": [one, two, three + bytes(64)],
        "no gguf": [one, two, b"MZ" + three[2:]],
    }[how]


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ("swapped", "part 2 of 3 says that it is part 3 of 3"),
        ("short", "part 1 of 2 says that it is part 1 of 3"),
        ("twice", r"tensors in all, and there are|a tensor of one name"),
        ("cut", "part 3: the tensors end at byte"),
        ("longer", "part 3: the tensors end at byte"),
        ("no gguf", "part 3: it begins with"),
    ],
)
def test_parts_that_make_no_model(
    tmp_path: Path, parts_of: Callable[..., dict[str, bytes]], how: str, match: str
) -> None:
    """Each fault is named with its part, and nothing lies under the target's name."""
    edited = _edited(parts_of(3), how)
    paths = _written(tmp_path, {f"{number}.gguf": data for number, data in enumerate(edited)})
    with pytest.raises(BadInput, match=match):
        merge(paths, tmp_path / "whole.gguf")
    assert not (tmp_path / "whole.gguf").exists()
