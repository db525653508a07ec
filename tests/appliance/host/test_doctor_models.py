"""What `doctor` says of GPUs and of how the models of a version would run on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from appliance.engine import probe
from appliance.engine.machine import Machine
from appliance.engine.reading import BytesReader, ReadAt
from appliance.host.doctor import Asked, examine
from appliance.host.doctor_state import examine_models
from appliance.host.finding import GOOD, Finding
from bundler.format.errors import BadBundle
from bundler.format.service import ModelSpec, Service

MIB, GIB = 2**20, 2**30
MACHINE = Machine(4 * GIB, "the machine", (), "there is no nvidia-smi", 2, 2, None)


class Models:
    """The part of a service that is asked for here."""

    def __init__(self, *contexts_tokens: int) -> None:
        self.models = tuple(ModelSpec(f"m{n}", "a", "0" * 64, size, 48) for n, size in enumerate(contexts_tokens))


def said(
    data: bytes, *contexts: int, machine: Machine = MACHINE, running_bytes: int = 0, reader: Any = None
) -> list[Finding]:
    opened = cast("Callable[[str], ReadAt]", reader or (lambda path: BytesReader(data)))
    return list(examine_models(cast("Service", Models(*contexts)), opened, machine, running_bytes))


@pytest.fixture(scope="module")
def gguf(smollm_gguf: Path) -> bytes:
    return smollm_gguf.read_bytes()[: 8 * MIB].ljust(smollm_gguf.stat().st_size, b"\0")


def test_each_model_is_told_with_its_reasons(gguf: bytes) -> None:
    """The plan in sentences; the second model gets what the first one leaves."""
    one, two = said(gguf, 2048, 2048)
    assert (one.subject, one.state, one.hint) == ("model m0", "good", "")
    assert "The model runs on the CPU: there is no nvidia-smi." in one.fact
    assert "16 requests run at once, with 2048 tokens" in one.fact
    assert "2 threads: 2 physical cores of 2 processors." in one.fact
    assert "of 4.0 GiB free" in one.fact
    assert "of 2.9 GiB free" in two.fact


def test_a_model_that_does_not_fit_is_bad_with_the_figures(gguf: bytes) -> None:
    """What it needs, what is free, and the way out."""
    (found,) = said(gguf, 2048, machine=replace(MACHINE, free_bytes=300 * MIB))
    assert found.state == "bad"
    assert "300 MiB are free, limited by the machine" in found.fact
    assert "stop other programs or add memory" in found.hint


def test_a_smaller_context_is_a_warning(gguf: bytes) -> None:
    """What the profile does not get is not good."""
    (found,) = said(gguf, 32_768, machine=replace(MACHINE, free_bytes=750 * MIB))
    assert found.state == "warn"
    assert "TOKENS instead of the 32768" in found.fact
    assert "more free memory" in found.hint


def test_what_running_engines_hold_counts_as_free(gguf: bytes) -> None:
    """A box that serves is not told that its own model would not fit."""
    (found,) = said(gguf, 512, machine=replace(MACHINE, free_bytes=300 * MIB), running_bytes=600 * MIB)
    assert found.state == "good"


def test_a_model_that_was_changed_is_bad() -> None:
    """A header that is not what was signed is a finding, not an error of the program."""

    def reader(path: str) -> ReadAt:
        raise BadBundle("chunk 0123 is not what was signed")

    (found,) = said(b"", 512, reader=reader)
    assert (found.state, found.fact) == ("bad", "chunk 0123 is not what was signed")
    assert found.hint == "install again from the medium"


NVIDIA_SMI = """#!/bin/sh
echo "0, GPU-8f2c, NVIDIA L4, 570.86.10, 20480, 23034"
"""


def with_tool(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = folder / "nvidia-smi"
    tool.write_text(text)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def gpu_finding(root: Path) -> Finding:
    return next(found for found in examine(Asked(root, datetime(2026, 11, 21, tzinfo=UTC))) if found.subject == "GPU")


def test_a_gpu_that_llama_cpp_cannot_use_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its memory is told, and that the model runs on the CPU all the same; with a build for GPUs all is well."""
    with_tool(tmp_path, NVIDIA_SMI, monkeypatch)
    monkeypatch.setattr(probe, "_built_for_gpus", lambda: False)
    found = gpu_finding(tmp_path)
    assert (found.state, found.hint) == ("warn", "install the environment of the GPU")
    assert "NVIDIA L4, 20.0 of 22.5 GiB free, driver 570.86.10; not used: llama-cpp-python is built" in found.fact
    assert probe.look().gpu_note.startswith("llama-cpp-python is built for the CPU only")
    monkeypatch.setattr(probe, "_built_for_gpus", lambda: True)
    assert gpu_finding(tmp_path).state == "good"
    assert [gpu.name for gpu in probe.look().gpus] == ["NVIDIA L4"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert "CUDA_VISIBLE_DEVICES hides" in gpu_finding(tmp_path).fact


def test_a_broken_driver_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """nvidia-smi's own words, and the way out; the models are planned for the CPU."""
    with_tool(tmp_path, "#!/bin/sh\necho 'Driver/library version mismatch'; exit 18\n", monkeypatch)
    found = gpu_finding(tmp_path)
    assert (found.state, found.hint) == ("bad", "repair the driver")
    assert "version mismatch" in found.fact
    assert probe.look().gpus == ()


def test_without_nvidia_smi_all_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a GPU is the ordinary case."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_finding(tmp_path) == Finding("GPU", GOOD, "none (no nvidia-smi): models run on the CPU")
