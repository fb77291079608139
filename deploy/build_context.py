"""Which files of a folder reach the image builder, by its .dockerignore. Copies nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path


def context_files(folder: Path) -> Iterator[str]:
    """Paths below the folder, `/` between their parts, that its .dockerignore lets through."""
    rules = _rules((folder / ".dockerignore").read_text())
    skipped = {".git", ".venv", "node_modules"}  # only for speed; the rules exclude them as well
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in skipped)
        for name in sorted(names):
            path = Path(parent, name).relative_to(folder).as_posix()
            if not is_ignored(path, rules):
                yield path


def is_ignored(path: str, rules: list[tuple[re.Pattern[str], bool]]) -> bool:
    """The last rule that matches the path, or a folder that it is in, decides."""
    parts = path.split("/")
    prefixes = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    ignored = False
    for pattern, ignores in rules:
        if any(pattern.fullmatch(prefix) for prefix in prefixes):
            ignored = ignores
    return ignored


def _rules(text: str) -> list[tuple[re.Pattern[str], bool]]:
    rules = []
    for line in map(str.strip, text.splitlines()):
        if line and not line.startswith("#"):
            ignores = not line.startswith("!")
            rules.append((_regex(line.removeprefix("!").strip("/")), ignores))
    return rules


def _regex(pattern: str) -> re.Pattern[str]:
    """Docker's patterns: `*` and `?` stay within one part of a path, `**` is any number of parts."""
    pieces = re.split(r"(\*\*/|\*\*|\*|\?|\[[^]]+\])", pattern)
    wild = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile(
        "".join(wild.get(piece) or (piece if piece.startswith("[") else re.escape(piece)) for piece in pieces)
    )
