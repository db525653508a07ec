"""Compiled grammars: who holds them, and within which bounds."""

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

def asked(number, size=500, **more):
    value = {"enum": [f"{number} and {place}" for place in range(size)]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": value}}
    return preparer.chat({"messages": [{"role": "user", "content": "x"}], "response_format": form, **more})

def code(refused):
    try:
        refused()
    except grammar.Refused as error:
        return error.status, error.code

grammars = preparer._grammars
waiting = [asked(number, n=4) for number in [*range(20), *range(20)]]
assert living == [0], living
assert len(grammars._living) == 20, len(grammars._living)

kept = set(grammars._kept)
assert len(kept) > 1
assert code(lambda: grammars.compiled("x" * 300_000)) == (400, "invalid_schema")
assert set(grammars._kept) == kept, "one that may not stay drove others away"

made = grammar.LLMatcher
grammar.LLMatcher = None  # from here on nothing can be compiled
makings = [Making(model, answer) for request in waiting for answer in request.answers[:2]]
assert living == [80], living
for making in makings:
    making.free()
grammar.LLMatcher = made

held, number, refused = list(waiting), 100, None
while refused is None:
    refused = code(lambda: held.append(asked(number, 2000)))
    number += 1
assert refused == (429, "queue_full"), refused
assert grammars.held_bytes <= 512 * 1024, grammars.held_bytes
del held, waiting, makings, making
asked(number, 2000)
assert grammars.kept_bytes <= 256 * 1024, grammars.kept_bytes
print("done")
"""


def test_grammars_are_compiled_while_a_request_is_prepared(smollm_gguf: Path) -> None:
    """Once for all who ask for the same, within bounds, and never when an answer begins; who waits has no matcher."""
    command = [sys.executable, "-c", WAITING, str(smollm_gguf)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
