"""Which files of a repository are a program, and which program is newer."""

from itertools import pairwise

import pytest

from bundler.format.errors import BadBundle
from bundler.format.software import in_order, is_version, programs, software_for_box, version_order

RISING = (
    "0 0.1.dev1 0.1a1.dev2 0.1a1 0.1a2 0.1b1 0.1rc1 0.1 0.1.post1.dev1 0.1.post1 0.1.1 0.2 0.10 1 1.0.0.1 10".split()
)


def test_versions_are_ordered_as_pep_440_orders_them() -> None:
    """Numbers are compared as numbers, and what comes before a release comes before it."""
    assert all(version_order(low) < version_order(high) for low, high in pairwise(RISING))
    assert in_order(reversed(RISING)) == RISING


def test_the_order_is_that_of_the_reference() -> None:
    """The library that pip uses gives the same order."""
    from packaging.version import Version

    assert sorted(RISING, key=Version) == RISING


@pytest.mark.parametrize("text", ["", "v1", "1.", "01", "1.0+local", "1!1", "1.0-1", "1.0 ", "..", "1" * 10, "1.0RC1"])
def test_what_is_no_version(text: str) -> None:
    """One spelling each, and nothing that a folder should not be named."""
    assert not is_version(text)
    with pytest.raises(BadBundle):
        version_order(text)


def test_trailing_zeros_are_the_same_version() -> None:
    """As everywhere in Python packaging."""
    assert version_order("1.0") == version_order("1.0.0")


def test_a_box_needs_the_newest() -> None:
    """Programs by version, oldest first; the installer comes with the newest."""
    files = dict.fromkeys(["runtime/0.10/a.whl", "runtime/0.9/a.whl", "bundles/x/bundle.json", "install.sh"], 1)
    assert list(programs(files)) == ["0.9", "0.10"]
    assert software_for_box(files) == ["runtime/0.10/a.whl", "install.sh"]
    assert software_for_box({"bundles/x/bundle.json": 1}) == []


@pytest.mark.parametrize("path", ["runtime/a.whl", "runtime/x/a.whl", "runtime/1.0/b/a.whl"])
def test_a_file_in_the_wrong_place_is_refused(path: str) -> None:
    """Nothing under `runtime` is overlooked."""
    with pytest.raises(BadBundle):
        programs({path: 1})
