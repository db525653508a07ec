"""Compiled grammars are kept within a bound, and waiting requests hold none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.llm

WAITING = """
import sys
from pathlib import Path
from appliance.engine import grammar
from appliance.engine.fit import Plan
from appliance.engine.model import Model
from appliance.engine.prepare import Preparer
from appliance.engine.making import Making
from appliance.engine.reading import BytesReader

plan = Plan(0, 512, 1, "f16", flash=False, threads=1, batch_threads=1)
model = Model(BytesReader(Path(sys.argv[1]).read_bytes()), plan)
living = [0]

class Counted(grammar.Matcher):
    def __init__(self, *words):
        super().__init__(*words)
        living[0] += 1
    def __del__(self):
        living[0] -= 1

grammar.Matcher = Counted
preparer = Preparer(model, 100)

def asked(number, size=2000):
    value = {"enum": [f"{number} and {place}" for place in range(size)]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": value}}
    return preparer.chat({"messages": [{"role": "user", "content": "x"}], "response_format": form, "n": 4})

waiting = [asked(number) for number in range(20)]
assert preparer._grammars.kept_bytes <= 256 * 1024, preparer._grammars.kept_bytes
assert len(preparer._grammars._kept) > 1
assert living == [0], living
making = Making(model, waiting[0].answers[0])  # its grammar was given up meanwhile, and is compiled again
assert living == [1], living
making.free()
print("done")
"""


def test_who_waits_holds_no_grammar(smollm_gguf: Path) -> None:
    """Twenty requests of four answers each: none has a matcher before its turn, and few grammars stay compiled."""
    command = [sys.executable, "-c", WAITING, str(smollm_gguf)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
