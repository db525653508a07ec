"""Both programs start with the base dependencies alone; what an extra brings is asked for in words."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Stands for an install without extras: whatever only an extra brings cannot be imported.
WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {modules!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
sys.argv = {argv!r}
from {module} import main
sys.exit(main())
"""
IMPORT_NAMES = {
    "beautifulsoup4": "bs4",
    "huggingface-hub": "huggingface_hub",
    "llama-cpp-python": "llama_cpp",
    "markdown-it-py": "markdown_it",
    "onnxruntime-gpu": "onnxruntime",
    "prometheus-client": "prometheus_client",
    "python-docx": "docx",
    "scikit-learn": "sklearn",
}


def _modules_of_extras() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [
        line for name in ("bundler", "appliance", "cpu", "gpu") for line in project["optional-dependencies"][name]
    ]
    names = {re.split(r"[<>=!~ \[]", line)[0] for line in extras}
    return {IMPORT_NAMES.get(name, name) for name in names}


def _run_without_extras(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    module = {"lifeboat": "bundler.cli", "lifeboat-appliance": "appliance.cli"}[program]
    text = WITHOUT.format(modules=_modules_of_extras(), argv=[program, *arguments], module=module)
    return subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("program", ["lifeboat", "lifeboat-appliance"])
def test_a_program_starts_without_extras(program: str) -> None:
    """The help of every program is there with the base install."""
    done = _run_without_extras(program, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage:" in done.stdout


@pytest.mark.parametrize(
    ("program", "arguments", "extra"),
    [
        ("lifeboat", ("faq", "check", "profiles/demo/faq.jsonl"), "bundler"),
        ("lifeboat-appliance", ("serve", "--state", "{state}"), "appliance"),
    ],
)
def test_a_missing_extra_is_a_hint(tmp_path: Path, program: str, arguments: tuple[str, ...], extra: str) -> None:
    """Work that needs an extra ends with its exit code and the line that installs it, not with a traceback."""
    done = _run_without_extras(program, *(word.format(state=tmp_path) for word in arguments))
    assert done.returncode == 5
    assert "error:" in done.stderr
    assert re.search(rf"hint: .*pip install .*lifeboat-ai\[.*{extra}", done.stderr)
    assert "Traceback" not in done.stderr
