"""The deployment's files as data, and the tools that judge them, where they are there. For tests only."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
OVERLAYS = DEPLOY / "kubernetes" / "overlays"

yaml = pytest.importorskip("yaml", reason="needs the extra `deploy`")


def tool(name: str) -> str:
    """Path of a program, from the environment of the tests first; the test is skipped where it is missing."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@cache
def rendered(overlay: str) -> tuple[dict[str, Any], ...]:
    """All resources of an overlay, as `kubectl apply -k` would send them."""
    command = [tool("kubectl"), "kustomize", str(OVERLAYS / overlay)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def resource(overlay: str, kind: str) -> dict[str, Any]:
    """The only resource of this kind."""
    (found,) = [document for document in rendered(overlay) if document["kind"] == kind]
    return found


def pod(overlay: str) -> dict[str, Any]:
    return resource(overlay, "Deployment")["spec"]["template"]["spec"]


def container(overlay: str) -> dict[str, Any]:
    (found,) = pod(overlay)["containers"]
    return found


def settings(overlay: str) -> dict[str, str]:
    return resource(overlay, "ConfigMap")["data"]


def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())
