"""What a header tells of a model's memory: the real model, and the shapes of other architectures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from appliance.engine.facts import model_facts
from appliance.engine.fitting import read_facts
from appliance.engine.need import MIB, Layout, cache_bytes, compute_bytes, need
from appliance.engine.reading import BytesReader, as_file
from bundler.format.errors import BadInput
from bundler.format.gguf_header import Header, TensorInfo, read_header


def header(architecture: str, keys: dict[str, Any], tensors: dict[str, tuple[int, ...]]) -> Header:
    """A checked header of f16 tensors by name and shape; a key may hold a number for each layer."""
    infos, offset = [], 0
    for name, shape in tensors.items():
        values = 1
        for size in shape:
            values *= size
        infos.append(TensorInfo(name, offset, 2 * values, values, shape))
        offset += 2 * values
    named = {f"{architecture}.{key}": value for key, value in keys.items()}
    scalars = {key: value for key, value in named.items() if not isinstance(value, tuple)}
    arrays = {key: value for key, value in named.items() if isinstance(value, tuple)}
    return Header({"general.architecture": architecture, **scalars}, {}, tuple(infos), 0, offset, arrays)


LLAMA = {"block_count": 2, "embedding_length": 64, "attention.head_count": 4, "attention.head_count_kv": 2,
         "feed_forward_length": 96, "context_length": 512, "vocab_size": 1000}  # fmt: skip
OUTSIDE = {"token_embd.weight": (64, 1000), "output_norm.weight": (64,)}


def blocks(*names_and_shapes: tuple[str, tuple[int, ...]], layers: int = 2) -> dict[str, tuple[int, ...]]:
    return OUTSIDE | {f"blk.{layer}.{name}": shape for layer in range(layers) for name, shape in names_and_shapes}


SPLIT = (
    ("attn_q.weight", (64, 64)),
    ("attn_k.weight", (64, 32)),
    ("attn_v.weight", (64, 32)),
    ("ffn_up.weight", (64, 96)),
)


def test_the_demo_model(smollm_gguf: Path) -> None:
    """SmolLM2-135M through the engine's reader: 30 layers, three cached heads of 64, a tied output counted twice."""
    facts = read_facts(BytesReader(smollm_gguf.read_bytes()))
    assert (facts.architecture, facts.layers, facts.embedding, facts.vocabulary) == ("llama", 30, 576, 49_152)
    assert (facts.heads, facts.head_sizes, facts.feed_forward) == (9, (64, 64), 1536)
    assert facts.key_widths == facts.value_widths == (192,) * 30
    assert facts.unsure == ()
    size = smollm_gguf.stat().st_size
    assert size < facts.weights_bytes < 1.5 * size
    # 2 x 192 values of two bytes in 30 layers are 23,040 bytes a token, 11.25 MiB for 512.
    assert sum(cache_bytes(facts, Layout(512, 1, "f16", flash=False, gpu_layers=0))) == 512 * 23_040


def test_grouped_heads_and_widths_that_differ() -> None:
    """Widths come from the tensors; without flash attention every layer's values are as wide as the widest."""
    tensors = blocks(*SPLIT) | {"blk.1.attn_k.weight": (64, 16), "blk.1.attn_v.weight": (64, 16)}
    facts = model_facts(header("llama", LLAMA | {"attention.head_count_kv": (2, 1)}, tensors))
    assert (facts.key_widths, facts.value_widths) == ((32, 16), (32, 16))
    plain = cache_bytes(facts, Layout(256, 2, "f16", flash=False, gpu_layers=0))
    assert plain == (2 * 256 * 2 * 64, 2 * 256 * 2 * 48)
    assert cache_bytes(facts, Layout(256, 2, "f16", flash=True, gpu_layers=0))[1] == 2 * 256 * 2 * 32


def test_one_matrix_for_query_key_and_value() -> None:
    """Where they are one tensor the header's numbers of heads tell the widths."""
    facts = model_facts(header("phi3", LLAMA, blocks(("attn_qkv.weight", (64, 128)))))
    assert (facts.key_widths, facts.value_widths, facts.unsure) == ((32, 32), (32, 32), ())


def test_experts_count_as_many_as_a_token_uses() -> None:
    """Two of eight experts of 48 are as wide as one layer of 96."""
    keys = LLAMA | {"expert_count": 8, "expert_used_count": 2, "feed_forward_length": 48}
    facts = model_facts(header("qwen3moe", keys, blocks(*SPLIT[:3], ("ffn_up_exps.weight", (64, 48, 8)))))
    assert facts.feed_forward == 96


def test_compressed_caches_are_said_to_be_unsure() -> None:
    """MLA: the header's widths, which are above what llama.cpp keeps, and a doubt that the reasons tell."""
    keys = LLAMA | {"attention.head_count_kv": 1, "attention.key_length": 40, "attention.value_length": 32,
                    "attention.kv_lora_rank": 32}  # fmt: skip
    facts = model_facts(header("deepseek2", keys, blocks(("attn_kv_a_mqa.weight", (64, 40)))))
    assert (facts.key_widths, facts.value_widths) == ((40, 40), (32, 32))
    assert "MLA" in facts.unsure[0]


def test_recurrent_layers_keep_a_state() -> None:
    """Mamba's state by llama.cpp's formula; layers of attention beside them keep keys and values."""
    keys = LLAMA | {"ssm.inner_size": 128, "ssm.state_size": 16, "ssm.conv_kernel": 4, "ssm.group_count": 1}
    tensors = blocks(*SPLIT) | {"blk.2.ssm_in.weight": (64, 300)}
    facts = model_facts(header("jamba", keys | {"block_count": 3}, tensors))
    assert facts.key_widths == (32, 32, 0)
    assert facts.state_bytes == (0, 0, 4 * (4 * 160 + 16 * 128))
    assert "recurrent" in facts.unsure[0]
    odd = model_facts(
        header("rwkv7", {"block_count": 2, "embedding_length": 64}, blocks(("time_mix_w1.weight", (64, 8))))
    )
    assert (odd.key_widths, odd.state_bytes) == ((0, 0), (4 * 256 * 64,) * 2)


def test_names_that_are_not_known_are_a_doubt() -> None:
    """Attention under other names: the header's numbers, counted high."""
    facts = model_facts(header("newthing", LLAMA, blocks(("mixer_q.weight", (64, 64)))))
    assert facts.key_widths == (32, 32)
    assert facts.unsure == ("attention tensors have names that are not known here",)


@pytest.mark.parametrize(
    ("keys", "tensors", "words"),
    [
        ({}, OUTSIDE, "block_count is 0"),
        ({"block_count": 5000, "embedding_length": 8}, OUTSIDE, "block_count is 5000"),
        (LLAMA, blocks(*SPLIT, layers=3), "is of layer 2, the model has 2"),
    ],
)
def test_a_header_that_is_no_model_is_refused(keys: Any, tensors: dict[str, tuple[int, ...]], words: str) -> None:
    """What every model has must be there and agree."""
    with pytest.raises(BadInput, match=words):
        model_facts(header("llama", keys, tensors))


def test_layers_move_to_the_gpu_from_the_end() -> None:
    """The output first, then the last layers with their caches; together the two sides are the whole."""
    facts = model_facts(header("llama", LLAMA, blocks(*SPLIT)))
    whole = need(facts, Layout(512, 2, "f16", flash=True, gpu_layers=0))
    one = need(facts, Layout(512, 2, "f16", flash=True, gpu_layers=1))
    assert (one.gpu_weights_bytes, one.gpu_cache_bytes) == (facts.output_bytes, 0)
    two = need(facts, Layout(512, 2, "f16", flash=True, gpu_layers=2))
    assert two.gpu_weights_bytes == facts.output_bytes + facts.layer_bytes[1]
    assert 2 * two.gpu_cache_bytes == whole.host_cache_bytes
    every = need(facts, Layout(512, 2, "f16", flash=True, gpu_layers=3))
    assert (every.host_weights_bytes, every.host_cache_bytes) == (facts.input_bytes, 0)


def test_a_reader_as_a_file(smollm_gguf: Path) -> None:
    """Reads and seeks as of the file itself, in any direction and past the end."""
    data = smollm_gguf.read_bytes()[:600_000]
    file = as_file(BytesReader(data))
    assert file.seek(0, 2) == len(data)
    assert file.seek(500_000) == 500_000
    assert file.read(200_000) == data[500_000:]
    file.seek(10)
    assert (file.read(5), file.tell()) == (data[10:15], 15)


REPORTS = """
import ctypes, json, re, sys
import llama_cpp as L
lines = []
callback = L.llama_log_callback(lambda level, text, data: lines.append(text.decode(errors="replace")))
L.llama_log_set(callback, ctypes.c_void_p(0))
L.llama_backend_init()
params = L.llama_model_default_params()
params.no_alloc, params.load_mode = True, L.LLAMA_LOAD_MODE_NONE
model = L.llama_model_load_from_file(sys.argv[1].encode(), params)
found = []
for tokens, sequences, flash, kind in json.loads(sys.argv[2]):
    lines.clear()
    params = L.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = tokens * sequences, *[512 if flash else 256] * 2
    params.n_seq_max, params.kv_unified, params.n_outputs_max = sequences, False, max(8, sequences)
    params.flash_attn_type, params.type_k, params.type_v = flash, kind, kind
    assert L.llama_init_from_model(model, params)
    text = "".join(lines)
    cache = sum(map(float, re.findall(r"size = *([0-9.]+) MiB \\(.*K \\(", text)))
    found.append((cache, sum(map(float, re.findall(r"compute buffer size = *([0-9.]+)", text)))))
print(json.dumps(found))
"""


@pytest.mark.llm
def test_llama_cpp_takes_no_more_than_the_formula_says(smollm_gguf: Path) -> None:
    """Its own figures, from a load without memory: caches within 1 %, compute buffers within the bound."""
    facts = read_header_facts(smollm_gguf)
    asked = [(tokens, n, flash, kind) for tokens, n in ((512, 1), (2048, 3), (8192, 1), (4096, 16), (512, 16))
             for flash, kind in ((0, 1), (1, 1), (1, 8))]  # fmt: skip
    words = [sys.executable, "-c", REPORTS, str(smollm_gguf), json.dumps(asked)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=250)
    for (tokens, sequences, flash, kind), (cache, compute) in zip(asked, json.loads(done.stdout), strict=True):
        layout = Layout(tokens, sequences, {1: "f16", 8: "q8_0"}[kind], flash=bool(flash), gpu_layers=0)
        assert sum(cache_bytes(facts, layout)) / MIB == pytest.approx(cache, rel=0.01)
        assert compute <= compute_bytes(facts, layout) / MIB <= 2.5 * compute


def read_header_facts(path: Path) -> Any:
    with path.open("rb") as file:
        return model_facts(read_header(file))
