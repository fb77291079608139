"""Makes the modules of `deploy/` importable, as they are for the scripts there."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "deploy"))
