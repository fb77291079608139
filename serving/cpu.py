"""How many processors this process may use. Knows affinity masks and cgroups, nothing of models."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_V1_QUOTA = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
_CGROUP_V1_PERIOD = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def available_cpu_count() -> int:
    """min(affinity, ceil(cgroup quota)): `os.cpu_count()` would count the whole host."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_quota_cpus()
    return affinity if quota is None else max(1, min(affinity, math.ceil(quota)))


def _cgroup_quota_cpus() -> float | None:
    """Processors' worth of time per period; None where there is no limit or no cgroup."""
    try:
        return parse_cpu_max(_CGROUP_V2.read_text())
    except (OSError, ValueError):
        pass
    try:
        return parse_cpu_max(f"{_CGROUP_V1_QUOTA.read_text().strip()} {_CGROUP_V1_PERIOD.read_text()}")
    except (OSError, ValueError):
        return None


def parse_cpu_max(text: str) -> float | None:
    """`quota period` of cgroup v2; `max` (v2) or a negative quota (v1) is no limit.

    >>> parse_cpu_max("150000 100000"), parse_cpu_max("max 100000"), parse_cpu_max("-1 100000")
    (1.5, None, None)
    """
    quota, period = text.split()
    if quota == "max" or int(quota) <= 0:
        return None
    return int(quota) / int(period)
