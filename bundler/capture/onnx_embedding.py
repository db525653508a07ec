"""Takes an embedding model that is offered as ONNX byte for byte: checked, and tried, in a confined child.

Exports of the usual tools (optimum, sentence-transformers, transformers.js) take token ids and give a row a token,
`last_hidden_state`, or a finished row a text, `sentence_embedding`. What their graph leaves out, pooling and length 1,
`knowledge.reading` does on the builder and on the box.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bundler.confine import Confinement, run_confined
from bundler.format.errors import BadInput
from bundler.format.limits import GIB, MIB
from bundler.format.record import from_json


@dataclass(frozen=True)
class TakenFacts:
    """What a graph that is taken as it came gives.

    Attributes:
        family: `model_type` of its configuration, "" where that does not say.
        output: The output that is read.
        pooling: "mean", "cls" or "max" over its rows, or "graph" where it gives a row a text.
        precision: What most of its weights are in.
        least_cosine: Of a text alone to the same text beside longer ones, over the texts that were tried.
    """

    family: str
    dimensions: int
    output: str
    pooling: str
    precision: str
    least_cosine: float

    def reason(self) -> str:
        """Says what was taken, in one line for the operator."""
        how = "the graph pools" if self.pooling == "graph" else f"{self.pooling} over {self.output}"
        doubt = "; what int8 costs it was not measured" if self.precision == "int8" else ""
        return f"{self.precision}, the ONNX graph as it came ({how}{doubt})"


def take(
    graph: Path,
    tokenizer: Path,
    config: Path,
    *,
    pooling: str,
    modules: Path | None,
    pooling_config: Path | None,
    max_tokens: int,
    precision: str = "auto",
) -> TakenFacts:
    """Checks the graph and runs it over a few texts, one of them as long as `max_tokens`.

    Args:
        graph: The ONNX file.
        tokenizer: `tokenizer.json`.
        config: `config.json`.
        pooling: As the profile says it; "" asks `modules.json` and `1_Pooling/config.json`.
        modules: `modules.json` of sentence-transformers, where `pooling` is "".
        pooling_config: `1_Pooling/config.json`, where `pooling` is "".
        max_tokens: The longest text that will be embedded.
        precision: What the profile wants of it; "auto" takes any.

    Raises:
        BadInput: The graph breaks the rules of `bundler.capture.onnx.check`, takes or gives something else than an
            embedding model, loops or rolls dice, is of another precision than asked for, fails at `max_tokens`, gives
            rows that depend on their neighbours, or pools in a way that is not done here.
    """
    size = graph.stat().st_size if graph.is_file() else 0
    inputs = {"graph": graph, "tokenizer": tokenizer, "config": config}
    given = {"modules": modules, "pooling": pooling_config}
    result = run_confined(
        "bundler.capture.onnx_embedding_child:take_streams",
        {"name": graph.name, "pooling": pooling, "max_tokens": max_tokens},
        inputs=inputs | {name: path for name, path in given.items() if path is not None},
        # The bytes, the message, the checker's copy, and the runtime's.
        confinement=Confinement(memory_bytes=4 * GIB + 10 * size, cpu_s=1800, wall_s=3600, output_bytes=MIB, threads=1),
    )
    facts = from_json(TakenFacts, result, f"the facts of {graph.name}")
    if precision not in ("auto", facts.precision):
        raise BadInput(
            f"{graph.name} is in {facts.precision}, the profile asks for {precision}",
            'name the export in that precision, or write precision = "auto"',
        )
    return facts
