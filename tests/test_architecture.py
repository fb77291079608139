"""Who may import whom (docs/architecture.md), how long a file may be, and what no file is called."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("tokenizer", "serving", "training")
FOLDERS = (*PACKAGES, "benchmarks", "deploy", "examples", "tests")
MAX_LINES = 350
NAMES_WITHOUT_MEANING = {"utils", "helpers", "common", "misc"}
TORCH = ("torch", "diffusers", "vector_quantize_pytorch", "safetensors", "tensorboard")

# Path prefix -> modules that no file below it may import.
FORBIDDEN = {
    "tokenizer": ("serving", "training", "tessera", "grpc", "prometheus_client"),
    "serving": ("training", "tokenizer.model", *TORCH),
    "training": ("serving", "tessera", "grpc"),
    "proto/tessera": ("tokenizer", "serving", "training"),
}
# Module -> the files, and folders with all they hold, that import it and alone may.
ONLY_IN = {
    # The export writes the runtime's version into the manifest; it runs graphs through OnnxSession.
    "onnxruntime": {"tokenizer/executors.py", "tokenizer/onnx_session.py", "training/export.py"},
    "prometheus_client": {
        f"serving/metrics/{name}.py"
        for name in ("batch", "bulk", "declare", "log_lines", "model", "security", "server")
    },
    "cryptography": {"serving/tls.py"},
    "opentelemetry": {"serving/tracing.py"},
    "tessera": {
        "serving/client/",
        *(
            f"serving/{name}.py"
            for name in (
                "admin",
                "cli/admin",
                "convert",
                "load/requests",
                "model_service",
                "replies",
                "served_rpcs",
                "server",
                "service",
                "tensors",
                "wanted_model",
            )
        ),
    },
}


def python_files(*folders: str) -> list[Path]:
    found = (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    return [path for path in found if "__pycache__" not in path.parts]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def imported_modules(path: Path) -> frozenset[str]:
    """Every module that a file imports, wherever in the file; `from a import b` counts as a and a.b."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)} imports relatively; the walk would miss it"
            assert node.module is not None
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(modules)


def imports(path: Path, module: str) -> bool:
    return any(found == module or found.startswith(f"{module}.") for found in imported_modules(path))


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_imports_follow_the_arrow(folder: str) -> None:
    files = python_files(folder)
    assert files
    wrong = [(name_of(p), module) for p in files for module in FORBIDDEN[folder] if imports(p, module)]
    assert wrong == []


def test_only_the_networks_import_torch() -> None:
    # datasets makes a torch data set for who asks, in a function; the test below sees that nothing else does.
    runtime = [path for path in python_files("tokenizer") if path.parent.name != "model"]
    runtime = [path for path in runtime if path.name != "datasets.py"]
    modules = (*TORCH, "tokenizer.model", "onnx")
    assert [(name_of(p), module) for p in runtime for module in modules if imports(p, module)] == []


@pytest.mark.parametrize("module", ONLY_IN)
def test_a_foreign_interface_has_one_room(module: str) -> None:
    users = {name_of(path) for path in python_files(*PACKAGES) if imports(path, module)}
    rooms = {room for room in ONLY_IN[module] if room.endswith("/")}
    assert {next(filter(user.startswith, rooms), user) for user in users} == ONLY_IN[module]


def test_library_and_service_import_without_torch() -> None:
    code = (
        "import sys, tokenizer, tokenizer.datasets, serving.cli, serving.server, serving.client\n"
        "heavy = ('torch', 'diffusers', 'vector_quantize_pytorch', 'onnx', 'training', 'matplotlib')\n"
        "print([module for module in heavy if module in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_stay_short(folder: str) -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in python_files(folder)}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_file_has_a_name_with_a_meaning(folder: str) -> None:
    assert [name_of(p) for p in python_files(folder) if p.stem in NAMES_WITHOUT_MEANING] == []


def test_no_top_level_module_is_called_proto() -> None:
    """Google's proto-plus owns that name; ours is `tessera`, with `proto/` as a source root."""
    assert not (ROOT / "proto" / "__init__.py").exists()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_file_says_what_it_is(package: str) -> None:
    silent = [
        name_of(path)
        for path in python_files(package)
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []
