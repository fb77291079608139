"""A Dockerfile as data: stages and their instructions. Runs nothing.

Knows the instructions and forms that ours uses; anything else is refused, so that no reader of the result
believes in a step that was skipped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

KEYWORDS = {"FROM", "ARG", "ENV", "LABEL", "WORKDIR", "COPY", "RUN", "USER", "EXPOSE"}
KEYWORDS |= {"STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


class DockerfileError(Exception):
    """The Dockerfile says something that is not understood here."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: `flags` are its leading `--name=value`, `text` is the rest."""

    keyword: str
    flags: Mapping[str, str]
    text: str

    @property
    def argv(self) -> list[str] | None:
        """The words of the exec form, `["program", "argument"]`; None for the shell form."""
        if not self.text.startswith("["):
            return None
        words = json.loads(self.text)
        if not all(isinstance(word, str) for word in words):
            raise DockerfileError(f"{self.keyword} needs a list of strings, got {self.text}")
        return list(words)


@dataclass(slots=True)
class Stage:
    """One FROM and what follows it."""

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def last(self, keyword: str) -> Instruction | None:
        """The one that counts, where only the last of a kind does."""
        found = [instruction for instruction in self.instructions if instruction.keyword == keyword]
        return found[-1] if found else None


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """Stages in order; `arguments` are the ARGs before the first, with their defaults."""

    arguments: Mapping[str, str]
    stages: tuple[Stage, ...]

    @classmethod
    def read(cls, path: Path) -> Dockerfile:
        """Raises DockerfileError."""
        arguments: dict[str, str] = {}
        stages: list[Stage] = []
        for instruction in map(_parse, _logical_lines(path.read_text())):
            if instruction.keyword == "FROM":
                base, _, name = instruction.text.partition(" AS ")
                stages.append(Stage(expand(base, arguments), name))
            elif stages:
                stages[-1].instructions.append(instruction)
            elif instruction.keyword == "ARG":
                name, _, default = instruction.text.partition("=")
                arguments[name] = default
            else:
                raise DockerfileError(f"{instruction.keyword} before the first FROM")
        return cls(arguments, tuple(stages))


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`${NAME}` and `$NAME` replaced; unknown ones are empty, as in Docker.

    >>> expand("${A}-$B.", {"A": "x"})
    'x-.'
    """
    return _VARIABLE.sub(lambda found: variables.get(found[1] or found[2], ""), text)


def _logical_lines(text: str) -> list[str]:
    """Lines without comments, with those that end in a backslash joined."""
    lines: list[str] = []
    is_continued = False
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        piece = line.strip().removesuffix("\\").rstrip()
        if is_continued:
            lines[-1] += f" {piece}"
        else:
            lines.append(piece)
        is_continued = line.rstrip().endswith("\\")
    return lines


def _parse(line: str) -> Instruction:
    keyword, _, rest = line.partition(" ")
    if keyword not in KEYWORDS:
        raise DockerfileError(f"instruction {keyword!r} is not known here")
    flags: dict[str, str] = {}
    rest = rest.strip()
    while rest.startswith("--"):
        flag, _, rest = rest.partition(" ")
        name, _, value = flag.removeprefix("--").partition("=")
        flags[name] = value
        rest = rest.lstrip()
    return Instruction(keyword, flags, rest)
