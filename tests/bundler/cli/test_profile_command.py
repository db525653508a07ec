"""`lifeboat profile new`, `check` and `explain`, as somebody runs them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from bundler.authoring.new import shipped_folder, shipped_profiles
from bundler.profile.read import read_profile

Run = Callable[..., Result]
ROOT = Path(__file__).parents[3]
SHIPPED = sorted(shipped_profiles(ROOT / "profiles"))


@pytest.fixture
def made(lifeboat: Run, tmp_path: Path) -> Path:
    """A minimal profile, as `new` makes it."""
    assert lifeboat("profile", "new", "mine", "--to", tmp_path).exit_code == 0
    return tmp_path / "mine.toml"


@pytest.mark.parametrize("source", SHIPPED)
def test_a_new_profile_is_sound_as_it_is(lifeboat: Run, tmp_path: Path, source: str) -> None:
    """Every shipped one can be the start; its content lies beside it under its own name."""
    done = lifeboat("profile", "new", "mine", "--from", source, "--to", tmp_path)
    assert done.exit_code == 0, done.stderr
    checked = lifeboat("profile", "check", tmp_path / "mine.toml")
    assert (checked.exit_code, checked.stdout) == (0, "no issues\n")
    assert read_profile(tmp_path / "mine.toml").name == "mine"
    assert f"file:{source}/" not in (tmp_path / "mine.toml").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {
        "mine", "mine.toml", "tiers", "profile.schema.json", "tier.schema.json",
    }  # fmt: skip


def test_a_new_profile_takes_a_tier(lifeboat: Run, tmp_path: Path) -> None:
    """By the name of a shipped one; those of the author are left as they are."""
    (tmp_path / "tiers").mkdir()
    (tmp_path / "tiers/cpu-16gb.toml").write_text("# mine\n")
    words = ("profile", "new", "desk", "--from", "msp-helpdesk", "--tier", "gpu-24gb", "--to", tmp_path, "--json")
    done = lifeboat(*words)
    assert done.exit_code == 0, done.stderr
    assert read_profile(tmp_path / "desk.toml").models[0].name == "local"
    assert "Mistral" in read_profile(tmp_path / "desk.toml").models[0].source
    assert (tmp_path / "tiers/cpu-16gb.toml").read_text() == "# mine\n"
    assert json.loads(done.stdout)["profile"] == str(tmp_path / "desk.toml")


@pytest.mark.parametrize("there", ["mine.toml", "mine"])
def test_nothing_is_overwritten(lifeboat: Run, tmp_path: Path, there: str) -> None:
    """Neither a profile nor a folder of that name."""
    (tmp_path / there).mkdir()
    done = lifeboat("profile", "new", "mine", "--to", tmp_path)
    assert done.exit_code == 3
    assert "is there already" in done.stderr
    assert [path.name for path in tmp_path.rglob("*")] == [there]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("My Profile",), "is no name of a profile"),
        (("mine", "--from", "none"), "there is no shipped profile 'none'"),
        (("mine", "--tier", "none"), "there is no shipped tier 'none'"),
        (("mine", "--from", "demo", "--tier", "cpu-16gb"), "takes no tier"),
    ],
)
def test_what_cannot_be_made_is_told(lifeboat: Run, tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    """With the names that there are, and nothing is written."""
    done = lifeboat("profile", "new", *words, "--to", tmp_path)
    assert (done.exit_code, told in done.stderr) == (3, True), done.stderr
    assert not list(tmp_path.iterdir())


def test_a_check_lists_everything_at_once(lifeboat: Run, made: Path) -> None:
    """Content that cannot be read, cases that nothing can meet, rungs that answer nobody: exit code 8."""
    folder = made.parent / "mine"
    with (folder / "faq.jsonl").open("a") as file:
        file.write('{"id": "alone", "question": "Only this?", "answer": "Yes."}\n')
    (folder / "documents/wrong.xyz").write_text("?")
    with (folder / "selftest.jsonl").open("a") as file:
        file.write('{"kind": "faq", "question": "Q1", "expect": "gone"}\n')
        file.write('{"kind": "route", "input": "Q2", "expect": "label"}\n')
        file.write('{"kind": "refuse", "question": "What is the capital of Mongolia?"}\n')
    made.write_text(
        made.read_text()
        .replace('chat = ["local", "answers", "handbook", "message"]', 'chat = ["local", "message"]')
        .replace('ask = ["answers", "handbook", "message"]', 'ask = ["handbook", "message"]')
    )
    done = lifeboat("profile", "check", made)
    assert done.exit_code == 8
    for told in (
        "[[documents]] handbook: wrong.xyz is not a document",
        "[[faq]] answers: alone ('Only this?'): no variants",
        "'Q1' expects the FAQ entry 'gone'",
        "1 cases are of kind 'route', and there is no [[router]]",
        "'What is the capital of Mongolia?' stands twice",
        "faq answers is in no ladder and no route",
    ):
        assert told in done.stdout, done.stdout
    assert "[ladder] chat has one rung that answers any question" in done.stderr


def test_a_check_tells_the_profiles_own_issues(lifeboat: Run, made: Path) -> None:
    """Those of the TOML come first, and end the check: the content may not be what it seems."""
    made.write_text(made.read_text().replace("banner =", "baner ="))
    done = lifeboat("profile", "check", made, "--json")
    assert done.exit_code == 8
    assert json.loads(done.stdout)["issues"] == ["[ladder]: baner is not known: write banner"]


@pytest.mark.parametrize("text", [None, "[bundle"])
def test_what_is_no_profile_is_bad_input(lifeboat: Run, tmp_path: Path, text: str | None) -> None:
    """A file that is not there, or that is not TOML, is no finding."""
    if text is not None:
        (tmp_path / "p.toml").write_text(text)
    for verb in ("check", "explain"):
        assert lifeboat("profile", verb, tmp_path / "p.toml").exit_code == 3


def test_walls_and_rungs_that_nobody_reaches_are_found(lifeboat: Run, made: Path) -> None:
    """A provider in a region that is not allowed is never asked, whatever the ladder says."""
    made.write_text(
        made.read_text()
        + '[[upstream]]\nname = "far"\nbase_url = "https://far.example/v1"\nmodel = "m"\nregion = "us"\n'
        + '[[route]]\nname = "r"\nrungs = ["far", "local"]\nregions = ["eu"]\n[limits]\nregions = ["eu"]\n'
    )
    done = lifeboat("profile", "check", made)
    assert "upstream far is never asked: its region 'us' is not in [limits]" in done.stdout
    assert "route r: upstream far is never asked" in done.stdout
    assert "https://far.example/v1 is an address of an example" in done.stderr


def test_a_licence_that_is_not_allowed_is_found_before_anything_is_fetched(lifeboat: Run, made: Path) -> None:
    """By what the profile states; a source that says otherwise is told by `plan`."""
    made.write_text(made.read_text() + '[licences]\nallow = ["MIT"]\n')
    done = lifeboat("profile", "check", made)
    assert done.exit_code == 8
    assert "local: " in done.stdout
    assert "Apache-2.0" in done.stdout


def test_an_image_without_a_licence_is_found_under_a_deny_list(lifeboat: Run, made: Path) -> None:
    """What nobody states may be what is denied: `build` would refuse it after the download."""
    image = f'[[image]]\nname = "desk"\nsource = "registry:127.0.0.1:5000/desk@sha256:{"0" * 64}"\n'
    made.write_text(f'{made.read_text()}{image}[licences]\ndeny = ["AGPL-*"]\n')
    done = lifeboat("profile", "check", made)
    assert done.exit_code == 8
    assert "desk: no licence is known" in done.stdout
    made.write_text(made.read_text().replace(image, f'{image}licence = "MIT"\n'))
    done = lifeboat("profile", "check", made)
    assert (done.exit_code, done.stdout) == (0, "no issues\n")


def test_cases_without_content_are_found(lifeboat: Run, made: Path) -> None:
    """The minimal profile has no router to ask."""
    cases = made.parent / "mine" / "selftest.jsonl"
    cases.write_text(cases.read_text() + '{"kind": "route", "input": "it burns", "expect": "fire"}\n')
    done = lifeboat("profile", "check", made)
    assert done.exit_code == 8
    assert "1 cases are of kind 'route', and there is no [[router]]" in done.stdout
    assert "of which there is no example" not in done.stdout


def test_an_explanation_says_who_answers_and_what_leaves(lifeboat: Run) -> None:
    """In the order in which rungs are asked, for each ladder and route."""
    done = lifeboat("profile", "explain", ROOT / "profiles/clinic-frontdesk.toml", "--json")
    assert done.exit_code == 0, done.stderr
    sections = {section["title"]: section["lines"] for section in json.loads(done.stdout)["sections"]}
    assert sections["Who answers model='desk-team'"][:2] == [
        "1. desk-faq, approved answers, word for word",
        "2. local, the model on the box",
    ]
    assert any("taken out: email, phone, patient-number" in line for line in sections["What leaves the building"])
    assert "model='patients': nothing changes" in sections["When the cloud is down"]
    assert "model='office-texts': local; jobs wait for 24 h" in sections["When the cloud is down"]
    assert any("5,900 MB of 16 GB" in line for line in sections["Memory and disk"])
    assert "a secret on the box: lifeboat-appliance secret set CLOUD_UK" in sections["What is missing"]


def test_an_explanation_lists_what_depends_on_ai(lifeboat: Run, made: Path) -> None:
    """Each line of the inventory with its goals, its plan and its owner; none without an inventory."""
    done = lifeboat("profile", "explain", ROOT / "profiles/demo.toml", "--json")
    sections = {section["title"]: section["lines"] for section in json.loads(done.stdout)["sections"]}
    [line] = [line for line in sections["What depends on AI"] if line.startswith("Ticket routing (critical)")]
    assert "by Nimbus AI, Stratus Cloud, eu-west; back within 15m, may lose 0m; without it: Lifeboat routes" in line
    assert line.endswith("Tom Okafor, helpdesk@northquay.example, 0117 496 0119")
    made.write_text(made.read_text().partition("[[service]]")[0])
    assert "What depends on AI" not in lifeboat("profile", "explain", made).stdout


def test_an_explanation_takes_another_tier(lifeboat: Run) -> None:
    """So that machines can be compared before one is bought."""
    done = lifeboat("profile", "explain", ROOT / "profiles/msp-helpdesk.toml", "--tier", "gpu-48gb")
    assert "48,300 MB of a GPU of 48 GB" in done.stdout
    assert "local-small" in done.stdout


def test_an_explanation_tells_of_stores_and_images(lifeboat: Run, made: Path) -> None:
    """What they become, that nothing of them leaves, what `reembed` means, and what the build asks for."""
    model = read_profile(made).embedding
    assert model is not None
    made.write_text(
        made.read_text()
        + f'[[vectors]]\nname = "kept"\nsource = "chroma:https://store.lan:8000"\nembedding = "{model.name}"\n'
        + 'token = "env:STORE_TOKEN"\n[[vectors]]\nname = "anew"\nsource = "file:rows.jsonl"\nreembed = true\n'
        + '[[image]]\nname = "tool"\nsource = "registry:registry.lan/acme/tool:1"\n'
    )
    done = lifeboat("profile", "explain", made, "--json")
    assert done.exit_code == 0, done.stderr
    sections = {section["title"]: section["lines"] for section in json.loads(done.stdout)["sections"]}
    leaves = sections["What leaves the building"]
    kept, anew, image = (
        next(line for line in next(iter(sections.values())) if line.startswith(start))
        for start in ("vector store kept", "vector store anew", "image tool")
    )
    assert "becomes the collection kept" in kept
    assert f"which {model.name} made; a search that names it is answered as the store did" in kept
    assert "`lifeboat export --vectors kept`" in kept
    assert "reembed: only its texts are taken" in anew
    assert "podman or docker and never starts it, `lifeboat-appliance image export tool`" in image
    assert any(line.startswith("nothing of the vector stores and images") for line in leaves)
    assert "the variable STORE_TOKEN where the bundle is built, for the store kept" in sections["What is missing"]
    assert any(line.startswith("the image tool is not pinned yet") for line in sections["What is missing"])
    assert "reembed" not in kept


def test_the_wheel_carries_every_shipped_file() -> None:
    """Each folder of profiles/ is named in pyproject.toml, so that `new` works without a checkout."""
    assert shipped_folder() == ROOT / "profiles"
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    carried = {path for patterns in listed.values() for pattern in patterns for path in ROOT.glob(pattern)}
    wanted = {path for path in (ROOT / "profiles").rglob("*") if path.is_file() and path.suffix != ".lock"}
    assert wanted - carried == set()
    places = {target.removeprefix("share/lifeboat/"): patterns for target, patterns in listed.items()}
    assert all(str(Path(pattern).parent) == place for place, patterns in places.items() for pattern in patterns)
