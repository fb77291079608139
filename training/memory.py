"""How much memory is free, and the refusal of sets that do not fit. Knows no pictures."""

from __future__ import annotations

from pathlib import Path

import torch

from training.sources import DataRefused

GIB = 2**30
HOST_SHARE = 0.8
"""Of what is free. The rest is for the network, optimizer and the linear codec's fit."""
DEVICE_SHARE = 0.5
"""Of what is free on the device: activations and optimizer need the other half."""


def check_host(needed_bytes: int, processes: int, max_gib: float | None) -> None:
    """Raises DataRefused if `processes` copies of the set do not fit on this machine."""
    allowed = max_gib * GIB if max_gib is not None else _free_host_bytes()
    if allowed is None:
        return
    allowed *= 1.0 if max_gib is not None else HOST_SHARE
    if needed_bytes * processes > allowed:
        copies = f" in each of {processes} processes" if processes > 1 else ""
        raise DataRefused(
            f"the pictures take {needed_bytes / GIB:.3g} GiB as uint8{copies}, and {allowed / GIB:.3g} GiB "
            "may be used: take fewer (--limit), or smaller ones (--set data.short_side_px=320)"
        )


def check_device(needed_bytes: int, device: torch.device) -> None:
    """Raises DataRefused if the set does not fit beside the training on the device."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _free_host_bytes()
    if free is not None and needed_bytes > DEVICE_SHARE * free:
        allowed = DEVICE_SHARE * free
        raise DataRefused(
            f"device_cache needs {needed_bytes / GIB:.3g} GiB of {device}, and {allowed / GIB:.3g} GiB may "
            "be used: turn it off, or take smaller pictures (--set data.short_side_px=320)"
        )


def _free_host_bytes() -> float | None:
    """Free memory of the machine or of the container, whichever is less; None where nobody says."""
    limits = [value for value in (_free_machine_bytes(), _free_container_bytes()) if value is not None]
    return min(limits, default=None)


def _free_machine_bytes() -> float | None:
    table = Path("/proc/meminfo")
    if not table.is_file():
        return None
    rows = (line.split() for line in table.read_text().splitlines())
    return next((int(row[1]) * 1024.0 for row in rows if row[0] == "MemAvailable:"), None)


def _free_container_bytes(folder: Path = Path("/sys/fs/cgroup")) -> float | None:
    """By cgroup v2, which is what containers have; `max` = no limit."""
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = (folder / "memory.current").read_text().strip()
    except OSError:
        return None
    return None if limit == "max" else float(int(limit) - int(used))
