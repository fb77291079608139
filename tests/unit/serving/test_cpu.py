"""Processors are counted as the container grants them, in cgroups of both versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving import cpu


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    """Writes /proc/self/cgroup and limit files below a mount of the test's own."""
    mount, proc = tmp_path / "mount", tmp_path / "cgroup"
    monkeypatch.setattr(cpu, "_MOUNT", mount)
    monkeypatch.setattr(cpu, "_PROC_CGROUP", proc)
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda _pid: set(range(16)))

    def write(lines: str, files: dict[str, str]) -> None:
        proc.write_text(lines)
        for name, text in files.items():
            file: Path = mount / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text + "\n")

    return write


V1 = "12:cpu,cpuacct:/docker/ab\n3:memory:/docker/ab\n0::/docker/ab\n"


@pytest.mark.parametrize(
    ("lines", "files", "count"),
    [
        ("0::/\n", {"cpu.max": "250000 100000"}, 3),
        ("0::/\n", {"cpu.max": "max 100000"}, 16),
        ("0::/\n", {"cpu.max": "20000 100000"}, 1),
        # A service with CPUQuota= below a slice with less: the tightest binds.
        (
            "0::/a.slice/b.service\n",
            {"a.slice/cpu.max": "200000 100000", "a.slice/b.service/cpu.max": "400000 100000"},
            2,
        ),
        # The path of the host, which the container does not see.
        ("0::/system.slice/docker-ab.scope\n", {"cpu.max": "300000 100000"}, 3),
        (V1, {"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
        (
            V1,
            {
                "cpu,cpuacct/docker/ab/cpu.cfs_quota_us": "150000",
                "cpu,cpuacct/docker/ab/cpu.cfs_period_us": "100000",
            },
            2,
        ),
        (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 16),
        # The processor time of another controller's line is nobody's business here.
        ("3:cpuset:/\n", {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 16),
        ("0::/\n", {"cpu.max": "nonsense"}, 16),
        ("nonsense\n", {}, 16),
    ],
)
def test_the_quota_of_the_container_counts(cgroup, lines, files, count):
    cgroup(lines, files)
    assert cpu.available_cpu_count() == count


def test_without_cgroups_the_affinity_mask_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu, "_PROC_CGROUP", tmp_path / "missing")
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda _pid: {2, 5, 7})
    assert cpu.available_cpu_count() == 3


def test_numpys_pools_get_one_thread_unless_the_user_says_otherwise():
    environment = {"OMP_NUM_THREADS": "4"}
    cpu.keep_blas_single_threaded(environment)
    assert environment == {"OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
