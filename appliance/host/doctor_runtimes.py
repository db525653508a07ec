"""What `doctor` says of the libraries that run the models: which are installed, and on what a session really runs."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from appliance.host.drivers import major_of, runtime_named_in
from appliance.host.finding import BAD, GOOD, WARN, Finding

# A graph that hands one number through (ONNX, onnx.proto: ModelProto), so that a session can be opened without a model.
TINY_GRAPH = bytes.fromhex(
    "0808"  # ir_version 8
    "3a37 0a10 0a0178 120179 22084964656e74697479"  # a graph with a node: x -> y, Identity
    "120167 5a0f 0a0178 120a 0a08 0801 1204 0a02 0801"  # its name; its input x, one float
    "620f 0a0179 120a 0a08 0801 1204 0a02 0801"  # its output y
    "4202 100d"  # opset 13
)
_NAMES = ("onnxruntime", "onnxruntime-gpu")
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def runtimes() -> Iterator[Finding]:
    """Examines both."""
    yield from _embedding_runtime()
    yield from _llm_runtime()


def cuda_builds() -> dict[str, int]:
    """Returns the CUDA major version of each installed library that was built for one."""
    found: dict[str, int] = {}
    if version("onnxruntime-gpu") is not None:
        import onnxruntime

        major = major_of(str(getattr(onnxruntime, "cuda_version", "") or ""))
        found |= {} if major is None else {"onnxruntime-gpu": major}
    library = _llama_cuda()
    major = None if library is None else runtime_named_in(library.read_bytes())
    return found if major is None else {**found, "llama-cpp-python": major}


def version(name: str) -> str | None:
    """Returns the installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _embedding_runtime() -> Iterator[Finding]:
    """Both distributions write the same folder: with two installed, nobody knows which one runs."""
    subject, installed = "embedding runtime", [name for name in _NAMES if version(name) is not None]
    fresh = 'install "lifeboat-ai[appliance,cpu]" or "[appliance,gpu]" into a fresh environment'
    if len(installed) != 1:
        yield Finding(subject, BAD, f"{len(installed)} onnxruntime distributions installed", fresh)
        return
    expected = _CUDA if installed == ["onnxruntime-gpu"] else _CPU
    told = f"{installed[0]} {version(installed[0])}"
    try:
        running = session_provider(expected)
    except Exception as error:  # noqa: BLE001 - the library raises bare Exceptions of its own; each is a finding
        yield Finding(subject, BAD, f"{told}: no session opens: {error}", fresh)
        return
    if running == expected:
        yield Finding(subject, GOOD, f"{told}; a session runs on {running}")
    else:
        hint = "install the driver and the CUDA libraries that it was built for, or the environment for the CPU"
        yield Finding(subject, BAD, f"{told}; a session runs on {running} and not on {expected}", hint)


def session_provider(wanted: str) -> str:
    """Opens a session and returns the execution provider that it really runs on."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    providers = [name for name in (wanted, _CPU) if name in onnxruntime.get_available_providers()]
    session = onnxruntime.InferenceSession(TINY_GRAPH, options, providers=list(dict.fromkeys(providers)))
    return str(session.get_providers()[0])


def _llm_runtime() -> Iterator[Finding]:
    found = version("llama-cpp-python")
    if found is None:
        hint = "pip install llama-cpp-python==0.3.36 (builds from source, needs a C++ compiler)"
        yield Finding("chat runtime", WARN, "llama-cpp-python is not installed: no local model answers", hint)
    else:
        built = "for the CPU" if _llama_cuda() is None else "for CUDA"
        yield Finding("chat runtime", GOOD, f"llama-cpp-python {found}, built {built}")


def _llama_cuda() -> Path | None:
    """Asked of the files: only the engine's child loads the library."""
    spec = find_spec("llama_cpp")
    folder = None if spec is None or spec.origin is None else Path(spec.origin).parent / "lib"
    return None if folder is None else next(iter(sorted(folder.glob("libggml-cuda*.so*"))), None)
