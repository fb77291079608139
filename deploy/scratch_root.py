"""A root file system to play container in: this machine's, with a throw-away layer on top.

Everything happens in a mount namespace of its own (`unshare --mount`), so nothing has to be undone.
Needs root on Linux.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

BASE_PATH = "/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"
# What an image of Python alone does not hold. In the scratch root these are empty.
_HIDDEN = ("/root", "/home", "/tmp", "/var/tmp", "/srv")


class ScratchRoot:
    """One layer over `/`; `layer` holds what was written to it, and nothing else."""

    def __init__(self, folder: Path, python_prefix: Path, hidden: Sequence[Path]) -> None:
        self.layer, self.path = folder / "layer", folder / "root"
        work = folder / "work"
        for made in (self.layer, self.path, work):
            made.mkdir(parents=True)
        layers = f"lowerdir=/,upperdir={self.layer},workdir={work}"
        _run("mount", "-t", "overlay", "overlay", "-o", layers, str(self.path))
        for name in ("proc", "sys", "dev"):
            _run("mount", "--rbind", f"/{name}", f"{self.path}/{name}")
        if python_prefix not in (Path("/usr"), Path("/usr/local")):
            _run("mount", "--rbind", str(python_prefix), f"{self.path}/usr/local")
            _run("chroot", str(self.path), "ldconfig")  # for an interpreter that is a shared library
        elif not Path("/usr/local/bin/python").exists():
            self.inside("/usr/local/bin/python").symlink_to(python_prefix / "bin" / "python3")
        for path in (*map(Path, _HIDDEN), *hidden):
            if path.is_dir() and self.inside(str(path)).is_dir():
                self.mount_tmpfs(str(path))

    def inside(self, path: str) -> Path:
        """Where this absolute path of the scratch root is for us."""
        return self.path / path.lstrip("/")

    def mount_tmpfs(self, path: str) -> None:
        """An empty folder in memory, as `docker run --tmpfs` gives one."""
        _run("mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", str(self.inside(path)))

    def make_read_only(self) -> None:
        """As `docker run --read-only`: the layer, and what hides the folders of this machine."""
        for path in ("", *_HIDDEN):
            if self.inside(path).is_mount():
                _run("mount", "-o", "remount,ro", str(self.inside(path)))

    def unmount(self, path: str) -> None:
        """The opposite of `mount_tmpfs`."""
        _run("umount", str(self.inside(path)))

    def command(self, argv: Sequence[str], folder: str, user: str = "") -> list[str]:
        """The command line that runs `argv` in there, as `uid:gid` without any capability if given."""
        uid, _, gid = user.partition(":")
        drop = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs"]
        enter = ["sh", "-c", 'cd "$0" && exec "$@"', folder, *argv]
        as_user = [*drop, "--bounding-set=-all", "--inh-caps=-all", *enter] if user else enter
        return [shutil.which("chroot", path=BASE_PATH) or "chroot", str(self.path), *as_user]

    def run(
        self, argv: Sequence[str], env: Mapping[str, str], folder: str, user: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end; output is captured."""
        return subprocess.run(
            self.command(argv, folder, user),
            env=dict(env),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )


def folder_size_mb(folder: Path) -> float:
    """Megabytes (10^6) of all files below it, links not followed."""
    sizes = (
        os.lstat(os.path.join(parent, name)).st_size for parent, _, names in os.walk(folder) for name in names
    )
    return sum(sizes) / 1e6


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)} failed: {done.stderr.strip()}")
