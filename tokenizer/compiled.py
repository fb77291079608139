"""compiled: plain loops over arrays, turned into machine code by numba. Knows nothing of pictures.

The scan of the range coding asks one question after the other, each with odds that hang on the answers
before: no array operation does that, and numpy with an interpreter took three times as long
(docs/decisions/0007).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from tokenizer.errors import ProviderError

try:
    from llvmlite.binding import get_host_cpu_name
    from numba import __version__, config, njit
except ImportError as error:
    raise ProviderError(
        "numba, the compiler of the range coding, is not installed: "
        "pip install 'tessera[cpu]' or 'tessera[gpu]'"
    ) from error

Function = TypeVar("Function", bound=Callable[..., Any])
# All files with compiled code.
_SOURCES = (
    "answers.py",
    "compiled.py",
    "contexts.py",
    "embedded.py",
    "range_coder.py",
    "scan.py",
    "signs.py",
    "surroundings.py",
)


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
    numba writes even where it only reads, so code in a place that cannot be written to, as in a container
    image, is copied to the first that can.
    """
    here = Path(__file__).parent
    try:
        sources = b"".join((here / name).read_bytes() for name in _SOURCES)
    except OSError:  # no files: imported from a zip, or frozen
        return None
    # NUMBA_CPU_NAME asks for code that other processors can run, too.
    settings: Any = config
    target = settings.CPU_NAME or get_host_cpu_name()
    name = f"tessera-{hashlib.sha256(sources + __version__.encode() + target.encode()).hexdigest()[:16]}"
    folders = [Path(parent) / name for parent in _cache_homes(here)]
    for folder in folders:
        if _is_writable(folder):
            _fill_if_empty(folder, folders)
            return folder
    return None


def _cache_homes(here: Path) -> list[str]:
    asked = (os.environ.get("NUMBA_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME"), "~/.cache")
    homes = (os.path.expanduser(parent) for parent in (*asked, str(here / "__pycache__")) if parent)
    return [path for path in homes if not path.startswith("~")]


def _fill_if_empty(folder: Path, sources: list[Path]) -> None:
    """Copy what another of these places holds; a copy that fails or is cut short only costs time later."""
    with suppress(OSError):
        if any(folder.iterdir()):
            return
        for source in sources:
            if source != folder and source.is_dir() and any(source.iterdir()):
                shutil.copytree(source, folder, dirs_exist_ok=True)
                return


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


FOLDER = machine_code_folder()
