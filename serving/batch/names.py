"""Keys of samples -> names of files: always inside the folder, never longer than a file system takes."""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath

_SAME = {".jpg": (".jpg", ".jpeg", ".jpe"), ".png": (".png",), ".webp": (".webp",)}
# Of the 255 that file systems take; the rest is for endings, and for the draft's host and process.
_MAX_PART_BYTES = 150


def parts_inside(key: str) -> tuple[str, ...]:
    """The parts of a key that lead down; one that is too long keeps its begin and a hash.

    >>> parts_inside("../cats//0001.jpg"), parts_inside("..")
    (('cats', '0001.jpg'), ('unnamed',))
    """
    parts = PurePosixPath(key.replace("\0", "_")).parts
    return tuple(_shortened(part) for part in parts if part not in ("/", "//", "..", ".")) or ("unnamed",)


def picture_name(key: str, ending: str) -> str:
    """The key with the ending of a picture file; one that it has already is not added again.

    >>> picture_name("a/1.png", ".png"), picture_name("a/1.JPEG", ".jpg"), picture_name("a/1.jpg", ".png")
    ('a/1.png', 'a/1.JPEG', 'a/1.jpg.png')
    """
    return key if key.lower().endswith(_SAME[ending]) else key + ending


def _shortened(part: str) -> str:
    whole = part.encode(errors="surrogatepass")
    if len(whole) <= _MAX_PART_BYTES:
        return part
    return whole[:_MAX_PART_BYTES].decode(errors="ignore") + "-" + hashlib.sha256(whole).hexdigest()[:8]
