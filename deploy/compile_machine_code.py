"""Compile the range coding once, while the image is built, so that no container has to.

Encodes and decodes one picture in each coding; numba keeps the machine code below NUMBA_CACHE_DIR.
Ends with 1 if it kept none: every start would then take some ten seconds longer, and nobody would know why.
"""

from __future__ import annotations

import sys

import numpy as np

from tokenizer import ImageTokenizer
from tokenizer.compiled import FOLDER


def main() -> int:
    """Exit code."""
    tokenizer = ImageTokenizer.from_pretrained()
    picture = np.zeros((256, 256, 3), np.uint8)
    for coding in tokenizer.codings:
        tokenizer.decode(tokenizer.encode([picture], coding=coding))
    if FOLDER is None or not any(FOLDER.rglob("*.nbc")):
        print("no machine code was kept", file=sys.stderr)
        return 1
    # Readable for whatever user the image runs as.
    for path in (FOLDER, *FOLDER.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    print(f"machine code in {FOLDER}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
