"""One thread for the numbers of each process, here and in those that tests start. Imported before numpy.

What tests compute is small: a second thread gains no time on it and spins while it waits. Fits took three
times the processor time, and on a busy machine many times as long.
"""

from __future__ import annotations

import os

# torch and the linear algebra of numpy read it once, when they come.
os.environ.setdefault("OMP_NUM_THREADS", "1")
