"""A command whose reader has gone, as in `tessera info *.tsr | head -1`, ends at once and says nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# What shells report for `cat` and `ls` there: 128 + SIGPIPE. The signal itself stays ignored, since it would
# also end a server whose client has gone.
EXIT_CLOSED_PIPE = 141


@contextmanager
def quiet_once_nobody_reads() -> Iterator[None]:
    """Raises SystemExit where stdout has no reader any more. No other pipe may break in there."""
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:  # closed by the caller: `>&-`
                sys.stdout.flush()
    except BrokenPipeError:
        # Else Python complains that it cannot write what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(EXIT_CLOSED_PIPE) from None
