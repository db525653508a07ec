"""Makes `install.sh` for one program: the template with the length and digest of every file that it uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.capture.runtime_rules import RuntimeFacts

_TEMPLATE = Path(__file__).with_name("install.sh")


@dataclass(frozen=True)
class Used:
    """A file that the installer uses."""

    name: str
    length_bytes: int
    sha256: str


def install_script(facts: RuntimeFacts, files: Sequence[Used]) -> bytes:
    """Returns the script; the same files give the same bytes."""
    listed = "\n".join(f"{file.sha256} {file.length_bytes} {file.name}" for file in files)
    values = {
        "@VERSION@": facts.version,
        "@PYTHON@": facts.python,
        "@MACHINE@": facts.machine,
        "@PROGRAM@": facts.program,
        "@FILES@": listed,
    }
    text = _TEMPLATE.read_text(encoding="utf-8")
    for mark, value in values.items():
        text = text.replace(mark, value)
    return text.encode()
