"""compiled: plain loops over arrays, turned into machine code by numba. Knows nothing of pictures.

The scan of the range coding asks one question after the other, each with odds that hang on the answers
before: no array operation does that, and numpy with an interpreter took three times as long
(docs/decisions/0007).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from llvmlite.binding import get_host_cpu_name
from numba import __version__, config, njit

Function = TypeVar("Function", bound=Callable[..., Any])
# All files with compiled code.
_SOURCES = ("answers.py", "compiled.py", "contexts.py", "embedded.py", "range_coder.py", "scan.py")


def compiled(function: Function) -> Function:
    """The function in machine code, which waits for no interpreter lock; kept on disk where that is possible.

    It must not allocate: without numba's runtime (`_nrt`) references to arrays are not counted each time one
    is looked at, which took a third of the time.
    """
    options: dict[str, Any] = {"nogil": True, "_nrt": False, "forceinline": True}
    if FOLDER is None:
        fresh: Function = njit(**options)(function)
        return fresh
    # The variable behind NUMBA_CACHE_DIR: what is asked for here holds for our functions only.
    settings: Any = config
    before = settings.CACHE_DIR
    try:
        settings.CACHE_DIR = str(FOLDER)
        kept: Any = njit(cache=True, **options)(function)
    except RuntimeError:  # the folder was taken away meanwhile
        kept = njit(**options)(function)
    finally:
        settings.CACHE_DIR = before
    if hasattr(kept, "_cache"):
        kept._cache = _ForgivingCache(kept._cache)
    made: Function = kept
    return made


class _ForgivingCache:
    """numba's cache of one function, but a file that is damaged or cannot be written costs time only."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def load_overload(self, *arguments: Any) -> Any:
        try:
            return self._cache.load_overload(*arguments)
        except Exception:  # unpickling what a crash left of a file raises almost anything
            return None

    def save_overload(self, *arguments: Any) -> None:
        with suppress(Exception):
            self._cache.save_overload(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)


def machine_code_folder() -> Path | None:
    """The first place that can be written to: `NUMBA_CACHE_DIR`, the user's cache folder, beside the source.

    One folder per state of the sources and kind of processor. numba by itself looks at the file of the
    outermost function only: it would keep stale copies of what that calls, and fail on classes that are gone.
    """
    here = Path(__file__).parent
    try:
        sources = b"".join((here / name).read_bytes() for name in _SOURCES)
    except OSError:  # no files: imported from a zip, or frozen
        return None
    key = sources + __version__.encode() + get_host_cpu_name().encode()
    name = f"tessera-{hashlib.sha256(key).hexdigest()[:16]}"
    homes = (os.environ.get("NUMBA_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME"), "~/.cache")
    for parent in (*homes, str(here / "__pycache__")):
        path = os.path.expanduser(parent or "~")
        if parent and not path.startswith("~") and _is_writable(Path(path) / name):
            return Path(path) / name
    return None


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


FOLDER = machine_code_folder()
