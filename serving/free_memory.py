"""Giving freed memory back to the system. Knows no models."""

from __future__ import annotations

import ctypes
import gc


def give_back() -> None:
    """After something large was freed: without this, each reload of a model takes another 10 to 40 MiB.

    The C library keeps what was freed in many small pieces; the caches inside a model refer to it and wait
    for the collector. Some 10 ms, most of them without the interpreter's lock.
    """
    gc.collect()
    # Only glibc has it, and only glibc needs it.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
