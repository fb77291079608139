"""`tessera batch encode` as a process of its own, and what a test sees of it from outside. For tests only."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from generated_pictures import picture
from PIL import Image

ROOT = Path(__file__).parents[2]
COMMAND = "from serving.cli import main; main()"
WAIT_S = 60.0


def write_pictures(folder: Path, count: int, side_px: int = 64) -> Path:
    """Small pictures that all differ."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(picture(number, side_px, side_px)).save(folder / f"{number:04d}.png")
    return folder


def start(*arguments: object, code: str = COMMAND, before: Callable[[], None] | None = None):
    """The command in a process group of its own, with this checkout first."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "proto")])}
    return subprocess.Popen(
        [sys.executable, "-c", code, "batch", "encode", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
        preexec_fn=before,
    )


def finish(job) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    out, err = job.communicate(timeout=4 * WAIT_S)
    return job.returncode, out, err


def run(*arguments: object, **options) -> tuple[int, str, str]:
    """From beginning to end."""
    return finish(start(*arguments, **options))


def kill_group(job) -> None:
    """kill -9 of the job and its workers, at once."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(job.pid, signal.SIGKILL)
    job.communicate()


def wait_until(holds: Callable[[], object], what: str) -> None:
    """Look again and again, without using up the processor that the job needs."""
    end_s = time.monotonic() + WAIT_S
    while not holds():
        if time.monotonic() > end_s:
            raise AssertionError(f"never: {what}")
        time.sleep(0.01)


def wait_for_reports(out: Path, count: int, job=None) -> None:
    """Until so many units are done, or the job has ended."""
    reports = out / "reports"
    wait_until(
        lambda: len(list(reports.glob("*.json"))) >= count or (job is not None and job.poll() is not None),
        f"{count} reports in {out}",
    )


def shards(out: Path) -> dict[str, bytes]:
    """All files of `data/`."""
    names = [path for path in sorted((out / "data").rglob("*")) if path.is_file()]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in names}


def outputs(out: Path) -> dict[str, bytes]:
    """All that a user takes away but the report."""
    return shards(out) | {"errors.jsonl": (out / "errors.jsonl").read_bytes()}


@contextlib.contextmanager
def small_file_system(folder: Path, size: str) -> Iterator[None]:
    """The folder holds no more than this; skips the test where nobody may mount."""
    if not mount(folder, f"size={size}"):
        pytest.skip("needs the right to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def mount(folder: Path, options: str) -> bool:
    """A file system in memory; False where nobody may mount one."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
    return subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0


def reports(out: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of the report of each unit: both change if it is written again."""
    found = {path.name: path.stat() for path in (out / "reports").glob("*.json")}
    return {name: (facts.st_ino, facts.st_mtime_ns) for name, facts in found.items()}


def drafts(out: Path) -> list[Path]:
    """Files that only a process in work may have."""
    return [path for path in out.rglob(".*") if path.name != ".lock"]


def descendants(pid: int, words: str) -> list[int]:
    """Processes below this one whose command line has these words."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    below = [found for child in children for found in (int(child), *descendants(int(child), ""))]
    return [found for found in below if words in command_line(found)]


def command_line(pid: int) -> str:
    """Empty once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def workers(job) -> list[int]:
    """The processes of the local engine."""
    return descendants(job.pid, "spawn_main")


def odd_pictures(folder: Path) -> tuple[Path, int]:
    """Files as data sets have them, and how many of them are no pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = picture(1, 40, 30)
    whole = io.BytesIO()
    Image.fromarray(pixels).save(whole, "PNG")
    bad = {
        "empty.jpg": b"",
        "page.jpg": b"<!doctype html><title>404</title>",
        "cut.png": whole.getvalue()[: len(whole.getvalue()) // 2],
        "noise.webp": bytes(range(256)),
    }
    for name, data in bad.items():
        (folder / name).write_bytes(data)
    Image.fromarray(pixels[:1, :1]).save(folder / "one_pixel.png")
    Image.fromarray(pixels).convert("P").save(folder / "palette.gif")
    Image.fromarray(pixels).convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(folder / "sixteen_bit.png")
    Image.fromarray(np.tile(pixels[:2], (1, 12, 1))).save(folder / "line.png")
    return folder, len(bad)
