"""The examples are scripts, not a package: their folder goes on the path, as Python itself does."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "examples"))
