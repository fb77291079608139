"""Which versions of what this process is made of."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def version_of(distribution: str) -> str:
    """Version of an installed distribution, or `unknown`."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "unknown"


def onnxruntime_version() -> str:
    """Version of whichever ONNX Runtime is installed, or `none`."""
    for name in ("onnxruntime", "onnxruntime-gpu"):
        if (found := version_of(name)) != "unknown":
            return found
    return "none"
