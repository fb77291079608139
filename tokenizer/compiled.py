"""compiled: plain loops over arrays, turned into machine code by numba. Knows nothing of pictures.

The scan of the range coding asks one question after the other, each with odds that hang on the answers
before: no array operation does that, and an interpreter takes ten times as long (docs/decisions/0007).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from numba import __version__, config, njit

Function = TypeVar("Function", bound=Callable[..., Any])
# All files with compiled code.
_SOURCES = ("answers.py", "compiled.py", "contexts.py", "embedded.py", "range_coder.py", "scan.py")


def compiled(function: Function) -> Function:
    """The function in machine code, which waits for no interpreter lock; kept on disk where that is possible.

    It must not allocate: without numba's runtime (`_nrt`) references to arrays are not counted each time one
    is looked at, which took two thirds of the time.
    """
    options: dict[str, Any] = {"nogil": True, "_nrt": False, "forceinline": True, "cache": FOLDER is not None}
    # The variable behind NUMBA_CACHE_DIR: what is asked for here holds for our functions only.
    settings: Any = config
    before = settings.CACHE_DIR
    try:
        settings.CACHE_DIR = str(FOLDER or "")
        made: Function = njit(**options)(function)
    finally:
        settings.CACHE_DIR = before
    return made


def machine_code_folder() -> Path | None:
    """The first place that can be written to: `NUMBA_CACHE_DIR`, beside the source, the user's cache folder.

    One folder per state of the sources. numba by itself looks at the file of the outermost function only: it
    would keep stale copies of what that calls, and fail on classes that are gone.
    """
    here = Path(__file__).parent
    sources = b"".join((here / name).read_bytes() for name in _SOURCES)
    name = f"tessera-{hashlib.sha256(sources + __version__.encode()).hexdigest()[:16]}"
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    for parent in (os.environ.get("NUMBA_CACHE_DIR"), here / "__pycache__", cache_home):
        if parent and _is_writable(Path(parent) / name):
            return Path(parent) / name
    return None


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


FOLDER = machine_code_folder()
