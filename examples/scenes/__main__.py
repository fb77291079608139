"""Write the scenes as PNG into the folder that is named."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from scenes import scenes

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for name, pixels in scenes().items():
    Image.fromarray(pixels).save(folder / f"{name.replace(' ', '_')}.png")
