"""The import rules: which package may import what, read from the source, and what a light import really loads."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED_WITH_APPLIANCE = ("bundler.format", "bundler.knowledge", "bundler.files", "bundler.confine", "bundler.terminal")
FORMAT_NEEDS = {"cryptography", "tuf"}
KNOWLEDGE_NEEDS = {"numpy", "onnxruntime", "tokenizers", "snowballstemmer"}
DOES_IO = {"asyncio", "http", "os", "pathlib", "shutil", "socket", "sqlite3", "subprocess", "tempfile", "urllib"}
# tuf.api itself loads bcrypt and urllib.parse (through securesystemslib and cryptography), and no HTTP client:
# urllib3 is a requirement of the tuf distribution and is imported by tuf.ngclient only.
HEAVY = (
    "aiohttp", "chromadb", "click", "http.client", "httpx", "litestar", "llama_cpp", "numpy", "onnx", "onnxruntime",
    "requests", "sklearn", "tokenizers", "tuf.ngclient", "urllib.request", "urllib3", "uvicorn",
)  # fmt: skip


@dataclass(frozen=True)
class Import:
    """One import statement: the module that holds it and the module it names."""

    module: str
    named: str
    line: int

    @property
    def top(self) -> str:
        return self.named.split(".")[0]

    def is_in(self, *packages: str) -> bool:
        return _within(self.module, *packages)

    def names(self, *packages: str) -> bool:
        return _within(self.named, *packages)

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.named}"


def _within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def _modules(package: str) -> dict[str, Path]:
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _imports(module: str, source: str, *, is_package: bool = False) -> Iterator[Import]:
    """Yields every import of a source text, those inside functions and `if TYPE_CHECKING` included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (Import(module, alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                home = module.split(".")[: None if is_package and node.level == 1 else -node.level + is_package]
                base = ".".join([*home, base]).rstrip(".")
            # `from bundler import build` names the module bundler.build.
            yield from (Import(module, f"{base}.{alias.name}", node.lineno) for alias in node.names)


def _all_imports() -> list[Import]:
    found: list[Import] = []
    for package in ("bundler", "appliance"):
        for module, path in _modules(package).items():
            found += _imports(module, path.read_text(), is_package=path.name == "__init__.py")
    return found


def _broken(imports: list[Import]) -> list[str]:
    """Returns the imports that break a rule, each with the rule."""
    foreign = [found for found in imports if found.top not in sys.stdlib_module_names]
    rules = {
        "bundler never imports appliance": [i for i in foreign if i.is_in("bundler") and i.top == "appliance"],
        f"appliance imports of bundler only {', '.join(SHARED_WITH_APPLIANCE)}": [
            i for i in foreign if i.is_in("appliance") and i.top == "bundler" and not i.names(*SHARED_WITH_APPLIANCE)
        ],
        "click is imported in cli/ only": [i for i in foreign if i.top == "click" and ".cli" not in i.module],
        f"bundler.format needs only {FORMAT_NEEDS}": [
            i
            for i in foreign
            if i.is_in("bundler.format")
            and i.top not in FORMAT_NEEDS
            and not i.names("bundler.format", "bundler.files")
        ],
        "bundler.files needs only the standard library": [
            i for i in foreign if i.is_in("bundler.files") and not i.names("bundler.format.errors")
        ],
        f"bundler.knowledge needs only {KNOWLEDGE_NEEDS}": [
            i
            for i in foreign
            if i.is_in("bundler.knowledge")
            and i.top not in KNOWLEDGE_NEEDS
            and not i.names("bundler.knowledge", "bundler.format")
        ],
        "bundler.knowledge does no I/O": [i for i in imports if i.is_in("bundler.knowledge") and i.top in DOES_IO],
        # The one takes in what others publish, the other keeps and ships what we made: what both need lies beside them.
        "bundler.sources never imports bundler.repository": [
            i for i in foreign if i.is_in("bundler.sources") and i.names("bundler.repository")
        ],
        "bundler.registries needs of ours only the format": [
            i
            for i in foreign
            if i.is_in("bundler.registries")
            and i.top == "bundler"
            and not i.names("bundler.registries", "bundler.format", "bundler.patience")
        ],
        "the programs import nothing of tests or scripts": [i for i in foreign if i.top in ("tests", "scripts")],
        "tuf's own client, which does HTTP, is not used": [i for i in foreign if i.names("tuf.ngclient")],
    }
    return [f"{found}: {rule}" for rule, breaches in rules.items() for found in breaches]


def test_the_packages_hold_the_import_rules() -> None:
    """No module of either program breaks a rule."""
    imports = _all_imports()
    assert len(imports) > 100, "the walk found nearly nothing"
    assert _broken(imports) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("bundler.build", "from appliance import app"),
        ("bundler.build", "def f():\n    import appliance.store"),
        ("appliance.app", "from bundler import build"),
        ("appliance.app", "from bundler.profile.read import read_profile"),
        ("appliance.host.doctor", "import click"),
        ("bundler.format.index", "from tokenizers import Tokenizer"),
        ("bundler.format.index", "from ..repository import sign"),
        ("bundler.format.index", "from bundler import terminal"),
        ("bundler.files", "import click"),
        ("bundler.knowledge.base", "from pathlib import Path"),
        ("bundler.knowledge.base", "import chromadb"),
        ("bundler.format.trust.verify", "from tuf.ngclient import Updater"),
        ("bundler.plan", "from tests.conftest import ROOT"),
        ("bundler.sources.referrers", "from bundler.repository.oci.client import Client"),
        ("bundler.registries.wire", "from bundler.sources.place import Place"),
    ],
)
def test_a_breach_is_seen(module: str, source: str) -> None:
    """Each rule catches an import that breaks it, however it is written."""
    assert len(_broken(list(_imports(module, source)))) >= 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("appliance.store.install", "from bundler.format.index import Index\nfrom bundler import files"),
        ("appliance.cli.serve", "import click"),
        ("bundler.format.bundle", "from bundler.files import read_limited"),
        ("bundler.format.age.reader", "from .stream import x\nfrom cryptography import hazmat\nimport os"),
        ("bundler.knowledge.base", "import numpy as np\nfrom bundler.format.service import Service"),
    ],
)
def test_what_is_allowed_passes(module: str, source: str) -> None:
    """The rules leave alone what the design allows."""
    assert _broken(list(_imports(module, source))) == []


def test_knowledge_opens_no_file() -> None:
    """The built-in open is never called in bundler.knowledge: bytes come in as arguments."""
    calls = [
        f"{module}:{node.lineno}"
        for module, path in _modules("bundler/knowledge").items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open"
    ]
    assert calls == []


def test_importing_the_format_is_light() -> None:
    """All modules of bundler.format together load no command line, no numbers, no models and no HTTP client."""
    modules = [name for name in _modules("bundler") if _within(name, "bundler.format")]
    assert "bundler.format.index" in modules
    program = f"import importlib, json, sys\nfor n in {modules!r}: importlib.import_module(n)\n"
    loaded = json.loads(_python(program + "print(json.dumps(sorted(sys.modules)))"))
    assert [name for name in loaded if _within(name, *HEAVY)] == []


def _python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
