"""Carry out the Dockerfile where no container engine runs, then start what it made and look at it.

    sudo python deploy/replay_dockerfile.py [--python python3.13] [--onnxruntime cpu]

Reads the Dockerfile itself, so the two cannot differ. Each stage is a throw-away layer over this machine's
root file system, in memory (some 2 GB); the wheel is built and everything is installed as written there,
then the entry point runs as process 1 of the image's user, without capabilities, on a read-only root and
a network of its own. Exit code 0: all checks passed; 1: one failed; 2: this machine cannot replay.

What it does not check: the base image (this machine's Debian and interpreter stand in for it), how layers
are packed, and limits on memory, processors and system calls.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from container_check import ContainerCheck
from dockerfile import Dockerfile, DockerfileError
from image_build import ImageBuild
from scratch_root import ScratchRoot

ROOT = Path(__file__).resolve().parents[1]
_TOOLS = ("unshare", "mount", "umount", "chroot", "setpriv")
_INSIDE = "--inside-namespace"
_FACTS = "import sys; print(sys.base_prefix, '.'.join(map(str, sys.version_info[:3])))"


def main() -> int:
    """Exit code."""
    arguments = _parse_arguments()
    if problem := _why_not():
        print(f"cannot replay the Dockerfile here: {problem}", file=sys.stderr)
        return 2
    if not arguments.inside_namespace:
        command = ["unshare", "--mount", "--propagation=private", sys.executable, *sys.argv, _INSIDE]
        return subprocess.run(command).returncode
    with tempfile.TemporaryDirectory(prefix="tessera-replay-") as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4g", "tmpfs", folder], check=True)
        try:
            return _replay(arguments, Path(folder))
        finally:
            subprocess.run(["umount", "--recursive", "--lazy", folder], check=False)


def _replay(arguments: argparse.Namespace, folder: Path) -> int:
    try:
        dockerfile = Dockerfile.read(ROOT / "Dockerfile")
        base = dockerfile.stages[0].base
        prefix, version = _interpreter(arguments.python)
        if not base.startswith(f"python:{version.rpartition('.')[0]}-"):
            print(
                f"cannot stand in for {base} with Python {version}; name another: --python", file=sys.stderr
            )
            return 2
        print(f"Python {version} of this machine stands in for {base}")
        # The checkout is hidden, too: what the image needs must come through the build context.
        build = ImageBuild(
            ROOT,
            {"ONNXRUNTIME": arguments.onnxruntime},
            lambda stage: ScratchRoot(folder / stage, Path(prefix), hidden=[ROOT.parent]),
        )
        image = build.build(dockerfile)
    except DockerfileError as error:
        print(f"Dockerfile: {error}", file=sys.stderr)
        return 1
    check = ContainerCheck(image)
    check.run()
    print(f"\n{'all checks passed' if not check.failures else f'{check.failures} checks failed'}")
    print("not checked: the base image, how layers are packed, limits on memory, processors and system calls")
    return min(1, check.failures)


def _interpreter(command: str) -> tuple[str, str]:
    """Where this Python is installed, and its version."""
    try:
        facts = subprocess.run([command, "-c", _FACTS], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"{command} does not run: {error}") from error
    prefix, version = facts.stdout.split()
    return prefix, version


def _why_not() -> str:
    """Why this machine cannot do it; empty if it can."""
    if not sys.platform.startswith("linux"):
        return "it needs Linux"
    if os.geteuid():
        return "it needs root, for namespaces and layers of its own"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    return f"{', '.join(missing)} missing" if missing else ""


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Replay the Dockerfile without a container engine.")
    parser.add_argument(
        "--python", default=sys.executable, help="interpreter that stands in for the base image"
    )
    parser.add_argument("--onnxruntime", choices=("cpu", "gpu"), default="cpu", help="the build argument")
    parser.add_argument(_INSIDE, action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
