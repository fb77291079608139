"""Carry out the instructions of a Dockerfile in scratch roots, as `docker build` would in containers."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from build_context import context_files
from dockerfile import Dockerfile, DockerfileError, Instruction, Stage, expand
from scratch_root import BASE_PATH, ScratchRoot

# How pip finds packages on this machine; a builder has its own ways, so they are not part of the image.
_PASSED_ON = ("PIP_", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


@dataclass(frozen=True, slots=True)
class Image:
    """What one stage made: its files, and how a container of it starts."""

    root: ScratchRoot
    env: Mapping[str, str] = field(default_factory=lambda: {"PATH": BASE_PATH})
    arguments: Mapping[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = ""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    healthcheck: tuple[str, ...] = ()
    stop_signal: str = "SIGTERM"


class ImageBuild:
    """Builds every stage; `new_root` gives an empty layer."""

    def __init__(
        self, source: Path, arguments: Mapping[str, str], new_root: Callable[[str], ScratchRoot]
    ) -> None:
        self._source = source
        self._arguments = arguments
        self._new_root = new_root
        self._images: dict[str, Image] = {}
        self._files = tuple(context_files(source))

    def build(self, dockerfile: Dockerfile) -> Image:
        """The image of the last stage. Raises SystemExit if a step fails, DockerfileError for one unknown."""
        for stage in dockerfile.stages:
            self._images[stage.name] = self._build_stage(stage)
        return self._images[dockerfile.stages[-1].name]

    def _build_stage(self, stage: Stage) -> Image:
        print(f"\n=== stage {stage.name}, FROM {stage.base}", flush=True)
        image = Image(self._new_root(stage.name))
        if stage.base in self._images:
            base = self._images[stage.base]
            _copy_tree(base.root.layer, image.root.path)
            image = replace(base, root=image.root, arguments={})
        for instruction in stage.instructions:
            start = time.monotonic()
            image = self._step(image, instruction)
            print(
                f"  {time.monotonic() - start:5.1f} s  {instruction.keyword} {instruction.text[:90]}",
                flush=True,
            )
        return image

    def _step(self, image: Image, step: Instruction) -> Image:
        variables = {**image.arguments, **image.env}
        match step.keyword:
            case "ARG":
                name, _, default = step.text.partition("=")
                value = self._arguments.get(name, expand(default, variables))
                return replace(image, arguments={**image.arguments, name: value})
            case "ENV":
                return replace(image, env={**image.env, **_pairs(expand(step.text, variables))})
            case "WORKDIR":
                image.root.inside(step.text).mkdir(parents=True, exist_ok=True)
                return replace(image, folder=step.text)
            case "COPY":
                self._copy(image, step, variables)
                return image
            case "RUN":
                self._run(image, step)
                return image
            case "USER":
                return replace(image, user=expand(step.text, variables))
            case "ENTRYPOINT":
                return replace(image, entrypoint=_argv(step), command=())
            case "CMD":
                return replace(image, command=_argv(step))
            case "HEALTHCHECK":
                check = replace(step, text=step.text.removeprefix("CMD").strip())
                return replace(image, healthcheck=_argv(check))
            case "STOPSIGNAL":
                return replace(image, stop_signal=step.text)
            case "LABEL" | "EXPOSE":
                return image
        raise DockerfileError(f"{step.keyword} cannot be replayed")

    def _copy(self, image: Image, step: Instruction, variables: Mapping[str, str]) -> None:
        *sources, target = expand(step.text, variables).split()
        inside = image.root.inside(os.path.join(image.folder, target))
        for source in sources:
            if "from" in step.flags:
                origin = self._images[step.flags["from"]].root.inside(source)
                _copy_tree(origin, inside)
            else:
                self._copy_from_context(source, inside, into=target.endswith(("/", ".")) or len(sources) > 1)

    def _copy_from_context(self, source: str, target: Path, *, into: bool) -> None:
        """A file goes to or into the target; a folder's content goes into it, as the COPY of Docker does."""
        chosen = [path for path in self._files if path == source or path.startswith(f"{source}/")]
        if not chosen:
            raise SystemExit(f"COPY {source}: no such file in the build context")
        for path in chosen:
            is_file = path == source
            to = target / (Path(path).name if into else "") if is_file else target / path[len(source) + 1 :]
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self._source / path, to)

    def _run(self, image: Image, step: Instruction) -> None:
        host = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
        env = {"HOME": "/root", **host, **image.arguments, **image.env}
        done = image.root.run(_argv(step), env, image.folder, image.user)
        if done.returncode:
            raise SystemExit(f"RUN ended with {done.returncode}: {step.text}\n{done.stdout[-4000:]}")


def _copy_tree(source: Path, target: Path) -> None:
    """The content of a folder with owners, modes, times and links, over what is there."""
    target.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "--archive", f"{source}/.", f"{target}/"], check=True)


def _argv(step: Instruction) -> tuple[str, ...]:
    return tuple(step.argv or ("/bin/sh", "-c", step.text))


def _pairs(text: str) -> dict[str, str]:
    """`A=1 B="two words"` as a dictionary."""
    return dict(word.split("=", 1) for word in shlex.split(text))
