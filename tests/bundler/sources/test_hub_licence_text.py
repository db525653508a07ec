"""Which file of a hub's repository is the text of the model's licence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bundler.sources.hub_listing import make_listing
from bundler.sources.source import Fetched

CODE, MODEL = b"MIT License\n", b"ACME LICENSE AGREEMENT\n"


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["LICENSE-CODE", "LICENSE-MODEL"], ["LICENSE-MODEL"]),
        (["LICENSE", "LICENSE-MODEL"], ["LICENSE-MODEL"]),
        (["LICENSE-CODE", "LICENSE.md"], ["LICENSE.md"]),
        (["COPYING", "LICENCE.txt", "LICENSE.3rdparty"], ["LICENCE.txt"]),
        (["COPYING", "COPYING.LESSER"], ["COPYING", "COPYING.LESSER"]),
        (["LICENSE-MIT", "LICENSE-APACHE", "COPYING"], ["LICENSE-APACHE", "LICENSE-MIT"]),
        (["LICENSE", "LICENSE.txt"], ["LICENSE", "LICENSE.txt"]),
        (["COPYING", "README.md", "folder/LICENSE"], ["COPYING"]),
        (["README.md"], []),
    ],
)
def test_the_text_of_the_model_stands_out_by_its_name(files: list[str], chosen: list[str]) -> None:
    """The model's own before the repository's, that before the code's; where none stands out there are several."""
    listing = make_listing("org/name", "0" * 40, "", [(name, 9, None, "1" * 40) for name in files])
    assert [entry.path for entry in listing.licence_texts()] == chosen


@pytest.mark.parametrize(
    ("files", "text", "stands_out"),
    [
        ({"LICENSE-CODE": CODE, "LICENSE-MODEL": MODEL}, MODEL, True),
        ({"LICENSE-A": CODE, "LICENSE-B": MODEL}, CODE, False),
    ],
)
def test_one_of_several_comes_along_and_is_not_taken_for_the_models(
    local_hub: Any, pull: Callable[..., Fetched], files: dict[str, bytes], text: bytes, *, stands_out: bool
) -> None:
    """It travels with the model, and says nothing of the stated licence."""
    local_hub.add("org/name", {"model.gguf": b"GGUF", **files})
    found = pull("hub:org/name/model.gguf")
    assert found.licence_text is not None
    assert (found.licence_text.read_bytes(), found.licence_text_stands_out) == (text, stands_out)
