"""Resident memory of a process on Linux, from /proc. Knows nothing of what the process does."""

from __future__ import annotations

from pathlib import Path

MIB = 2**20


def resident_mib(pid: int | str = "self") -> float:
    """Memory in RAM now (VmRSS)."""
    return _status_mib(pid, "VmRSS")


def peak_resident_mib(pid: int | str = "self") -> float:
    """The most memory in RAM since the start, or since the last `forget_peak` (VmHWM)."""
    return _status_mib(pid, "VmHWM")


def forget_peak() -> None:
    """Start a new peak for this process. Raises OSError where the kernel does not offer it."""
    # "5" resets the high-water mark: proc_pid_clear_refs(5).
    Path("/proc/self/clear_refs").write_text("5")


def _status_mib(pid: int | str, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            # The kernel writes "kB" and means 1024 bytes.
            return int(value.split()[0]) * 1024 / MIB
    raise KeyError(f"no {field} in the status of process {pid}")
