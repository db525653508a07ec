"""What the confined child of test_confined_session.py is told to do: models that answer well, and badly."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from bundler.confined_session import ANSWERS, ASKED, received, send
from bundler.format.errors import BadInput

FACTS = [4, "fp32", "0" * 64, "1.0", "CPU"]
Files = Mapping[str, IO[bytes]]


def before(request: Mapping[str, Any], _inputs: Files, outputs: Files) -> None:
    """Misbehaves before it has said what it is."""
    match request["how"]:
        case "garbage":
            send(outputs[ANSWERS], b"\xff\x00 no JSON")
        case "another":
            send(outputs[ANSWERS], json.dumps({"dimensions": 4}).encode())
        case "nested":
            send(outputs[ANSWERS], b"[" * 4000)
        case "long":
            outputs[ANSWERS].write((2**63).to_bytes(8, "little"))
            outputs[ANSWERS].flush()
        case "hang":
            time.sleep(600)
        case "raise":
            raise BadInput("no graph that I know", "bring another")
    time.sleep(600)


def after(request: Mapping[str, Any], inputs: Files, outputs: Files) -> None:
    """Says what it is, and misbehaves once it is asked."""
    answers = outputs[ANSWERS]
    send(answers, json.dumps(FACTS).encode())
    if request["how"] == "deaf":
        time.sleep(600)
    for question in received(inputs[ASKED]):
        texts = question.get("query") or question.get("passage") or ()
        rows = np.ones((len(texts), 4), "<f4")
        if request["how"] == "leave":
            return
        if (answer := _answer(request["how"], question, rows)) is None:
            answers.write(len(rows.tobytes()).to_bytes(8, "little") + rows.tobytes()[:5])
            answers.flush()
            os.abort()
        send(answers, answer)


def _answer(how: str, question: Mapping[str, Any], rows: Any) -> bytes | None:
    if how == "raise":
        raise BadInput("this text is too much for me", "take it out")
    if how == "hang":
        time.sleep(600)
    if how == "nan":
        rows[0, 0] = np.nan
    good = b"7" if "count" in question else rows.tobytes()
    badly = {"fewer": rows[1:].tobytes(), "more": good + bytes(16), "count": b'"seven"', "words": b"\xff no number"}
    return None if how == "half" else badly.get(how, good)
