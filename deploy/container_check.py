"""Start an image as a container with a read-only root would, and look at it from outside. Builds nothing."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from image_build import Image
from scratch_root import folder_size_mb

START_TIMEOUT_S = 120.0
# The longest drain that the settings allow by default, and what is around it.
STOP_TIMEOUT_S = 30.0
_POLL_S = 0.2
_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
# None of these serves a picture: they are for training, building or installing.
_UNWANTED = ("torch", "diffusers", "onnx", "pip", "setuptools", "hatchling", "pytest")
_PICTURE = (
    "import numpy as np; from PIL import Image; y, x = np.mgrid[0:208, 0:320]; "
    "Image.fromarray(np.stack([x % 256, y, (x + y) % 256], 2).astype('uint8')).save('/tmp/in.png')"
)
_SIZE = "from PIL import Image; picture = Image.open('/tmp/back.png'); picture.load(); print(*picture.size)"


class ContainerCheck:
    """Collects facts and failures; `failures` counts the latter."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self.failures = 0

    def run(self) -> None:
        """All checks, in the order of a container's life."""
        self._leave_the_network()
        self._look_at_the_files()
        self._image.root.make_read_only()
        self._image.root.mount_tmpfs("/tmp")
        self._live(self._exercise)
        # The mount of `--tmpfs` is gone now: no place can be written to.
        self._image.root.unmount("/tmp")
        self._live(lambda pid: self.tell(True, "serves without any place to write to, too"))

    def tell(self, good: bool, text: str) -> None:
        """One line of the report."""
        self.failures += not good
        print(f"  {'ok  ' if good else 'FAIL'}  {text}", flush=True)

    def _leave_the_network(self) -> None:
        """From here on only a loopback of our own: the default ports are free, and nothing gets out."""
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
            raise SystemExit(f"cannot leave the network: {os.strerror(ctypes.get_errno())}")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            fcntl.ioctl(sock, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))

    def _look_at_the_files(self) -> None:
        print("\n=== files")
        code = f"import importlib.util as u; print([m for m in {_UNWANTED} if u.find_spec(m)])"
        found = self._exec("python", "-c", code).stdout.strip()
        self.tell(found == "[]", f"none of {', '.join(_UNWANTED)} can be imported: {found}")
        layer = self._image.root.layer
        self.tell(True, f"layers over the base image: {folder_size_mb(layer):.0f} MB")
        packages = sorted(layer.glob("opt/tessera/lib/*/site-packages/*"), key=folder_size_mb, reverse=True)
        sizes = ", ".join(f"{path.name} {folder_size_mb(path):.0f}" for path in packages[:8])
        self.tell(True, f"the largest packages, in MB: {sizes}")
        code_folder = self._machine_code(self._image.env["NUMBA_CACHE_DIR"])
        self.tell(bool(code_folder), f"machine code in the image: {len(code_folder)} files")
        writable = self._exec("find", "/opt", "-perm", "/022", "-not", "-type", "l").stdout.split()
        self.tell(not writable, f"nothing in /opt can be changed by others than root: {writable[:3]}")

    def _live(self, work: Callable[[int], None]) -> None:
        """One container from start to stop, with `work` in between."""
        image = self._image
        argv = (*image.entrypoint, *image.command)
        print(f"\n=== container: {' '.join(argv)} as {image.user}, read-only root")
        command = image.root.command(argv, image.folder, image.user)
        start = time.monotonic()
        log = Path(image.root.path.parent, "server.log")
        with log.open("wb") as out:
            # In a process namespace of its own the server is process 1, which the kernel treats specially.
            process = subprocess.Popen(
                ["unshare", "--pid", "--fork", "--kill-child", *command],
                env=dict(image.env),
                stdout=out,
                stderr=subprocess.STDOUT,
            )
            try:
                pid = self._wait_until_healthy(process, start, log)
                work(pid)
                self._stop(process, pid)
            finally:
                process.kill()

    def _wait_until_healthy(self, process: subprocess.Popen[bytes], start: float, log: Path) -> int:
        self.tell(self._exec(*self._image.healthcheck).returncode == 1, "HEALTHCHECK says 1 while it starts")
        while self._exec(*self._image.healthcheck).returncode:
            if process.poll() is not None or time.monotonic() - start > START_TIMEOUT_S:
                raise SystemExit(f"the server never became healthy:\n{log.read_text()[-4000:]}")
            time.sleep(_POLL_S)
        self.tell(True, f"HEALTHCHECK says 0 after {time.monotonic() - start:.1f} s")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return int(children[0])

    def _exercise(self, pid: int) -> None:
        facts = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
        )
        uids, capabilities = facts["Uid"].split(), facts["CapBnd"].strip()
        self.tell(set(uids) == {self._image.user.split(":")[0]}, f"runs as user {uids[0]}")
        self.tell(int(capabilities, 16) == 0, "has no capability and can get none")
        self.tell(facts["NSpid"].split()[-1] == "1", "is process 1")
        self._encode_and_decode()
        resident_mb = int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) / 1000
        self.tell(True, f"resident memory after it: {resident_mb:.0f} MB")
        shipped = self._machine_code(self._image.env["NUMBA_CACHE_DIR"])
        used = self._machine_code("/tmp/.cache")
        self.tell(
            shipped == used,
            f"compiled nothing: {len(used - shipped)} of {len(used)} files are not the shipped ones",
        )

    def _encode_and_decode(self) -> None:
        steps = (
            ("python", "-c", _PICTURE),
            ("tessera", "client", "encode", "/tmp/in.png", "--max-bytes", "128", "-o", "/tmp/in.tsr"),
            ("tessera", "client", "decode", "/tmp/in.tsr", "-o", "/tmp/back.png"),
            ("python", "-c", _SIZE),
        )
        done = [self._exec(*step) for step in steps]
        size = done[-1].stdout.strip()
        if failed := next((step for step in done if step.returncode), None):
            self.tell(False, f"a picture went through: {failed.stdout[-500:]}")
            return
        size_bytes = self._image.root.inside("/tmp/in.tsr").stat().st_size
        self.tell(
            size == "320 208" and size_bytes <= 128, f"a picture of {size} went through {size_bytes} bytes"
        )

    def _stop(self, process: subprocess.Popen[bytes], pid: int) -> None:
        number = signal.Signals[self._image.stop_signal]
        start = time.monotonic()
        os.kill(pid, number)
        try:
            code = process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.tell(False, f"{number.name} did not end it within {STOP_TIMEOUT_S:.0f} s")
            return
        seconds = time.monotonic() - start
        self.tell(code == 0, f"{number.name} ended it with exit code {code} after {seconds:.1f} s")

    def _exec(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """As `docker exec`: the container's user and environment, output captured."""
        image = self._image
        return image.root.run(argv, image.env, image.folder, image.user)

    def _machine_code(self, folder: str) -> frozenset[tuple[str, int]]:
        """Names and times of the files: a function that was compiled anew has another time."""
        files = self._image.root.inside(folder).rglob("*.nbc")
        return frozenset((path.name, path.stat().st_mtime_ns) for path in files)
