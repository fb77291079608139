"""How many processors this process may use. Knows affinity masks and cgroups, nothing of models."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path, PurePosixPath

_PROC_CGROUP = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")
# The libraries below numpy start one thread per processor of the host unless these say otherwise.
_BLAS_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def available_cpu_count() -> int:
    """min(affinity, ceil(cgroup quota)): `os.cpu_count()` would count the whole host."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota_cpus()
    return affinity if quota is None else max(1, min(affinity, math.ceil(quota)))


def keep_blas_single_threaded(environment: MutableMapping[str, str] = os.environ) -> None:
    """Pools of numpy's libraries would fight ONNX Runtime's; only works before numpy is imported.

    What the user has set stays.
    """
    for name in _BLAS_VARIABLES:
        environment.setdefault(name, "1")


def _cgroup_quota_cpus() -> float | None:
    """The least processors' worth of time that a cgroup around us allows; None where none has a limit."""
    quotas = [quota for text in _limits() if (quota := parse_cpu_max(text)) is not None]
    return min(quotas, default=None)


def _limits() -> Iterator[str]:
    """`quota period` of our cgroup and all above it, v2 and v1: the tightest one binds."""
    for controllers, path in _own_cgroups():
        for folder in (path, *path.parents):
            below = str(folder).lstrip("/")
            if not controllers:
                yield from _read(_MOUNT / below / "cpu.max")
            elif "cpu" in controllers.split(","):
                for mount in {controllers, "cpu"}:
                    yield from _read_v1(_MOUNT / mount / below)


def _own_cgroups() -> list[tuple[str, PurePosixPath]]:
    """(controllers, path) per line of /proc/self/cgroup; none for v2.

    In a container with a namespace of its own the path is /, and its limits stand at the mount itself.
    Without one the path is the host's, which may not exist in here: the mount's root is read all the same.
    """
    try:
        lines = [line.split(":", 2) for line in _PROC_CGROUP.read_text().splitlines()]
    except OSError:
        return []
    return [(fields[1], PurePosixPath("/", fields[2])) for fields in lines if len(fields) == 3]


def _read(*files: Path) -> Iterator[str]:
    """Their contents joined, if all can be read."""
    try:
        yield " ".join(file.read_text().strip() for file in files)
    except (OSError, ValueError):
        return


def _read_v1(folder: Path) -> Iterator[str]:
    yield from _read(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")


def parse_cpu_max(text: str) -> float | None:
    """`quota period` of cgroup v2; `max` (v2) or a negative quota (v1) is no limit, and so is nonsense.

    >>> parse_cpu_max("150000 100000"), parse_cpu_max("max 100000"), parse_cpu_max("-1 100000")
    (1.5, None, None)
    """
    try:
        quota, period = (int(word) for word in text.split())
    except ValueError:
        return None
    return quota / period if quota > 0 and period > 0 else None
