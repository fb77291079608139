"""ModelArtifact: a folder of graphs, tables, config and manifest; nothing is used before its hash holds.

config.json     TokenizerConfig
manifest.json   hash of every other file, fingerprint, versions, parity, data, measured quality
halting.onnx    linear_psnr_db, features, blocks -> psnr_db, spread_db

spectral layout
tables.npz      SpectralTables
contexts.npz    ContextTables
encoder.onnx    image, vertical, horizontal -> coefficients, reference, energy
decoder.onnx    means, length, expected_mse, vertical, horizontal -> image
refiner.onnx    state, fidelity, time, length, expected_mse -> velocity; only where the manifest names it

register layout
registers.npz   RegisterTables
encoder.onnx    image, positions -> ids
decoder.onnx    ids, kept, positions -> image
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tokenizer.config import TokenizerConfig
from tokenizer.contexts import ContextTables
from tokenizer.errors import ArtifactError
from tokenizer.registers import RegisterTables
from tokenizer.spectral import SpectralTables

Tables = TypeVar("Tables", SpectralTables, ContextTables, RegisterTables)

GRAPHS = ("encoder.onnx", "decoder.onnx", "halting.onnx")
FILES = ("config.json", "tables.npz", "contexts.npz", *GRAPHS)
REGISTER_FILES = ("config.json", "registers.npz", *GRAPHS)
# Optional: without it a model decodes for fidelity only. No token depends on it, nor does the digest.
REFINER = "refiner.onnx"
PRETRAINED = Path(__file__).parent / "pretrained"
# The int8 sibling of tessera-small: the same tokens, a third of the decoder's time, 0.005 dB less.
DEFAULT_MODEL = "tessera-small-int8"


@dataclass(frozen=True, slots=True)
class ModelArtifact:
    """One loaded, verified model folder."""

    path: Path
    config: TokenizerConfig
    layout_tables: tuple[SpectralTables, ContextTables] | RegisterTables
    """What gives tokens their meaning besides the encoder, by the config's layout."""
    manifest: dict[str, Any]
    graphs: dict[str, bytes]
    """Bytes of each ONNX graph, by file name."""

    @property
    def tables(self) -> SpectralTables:
        """Tables of the spectral layout. Raises ArtifactError where the layout is another."""
        return self._spectral()[0]

    @property
    def contexts(self) -> ContextTables:
        """Tables of the range coding. Raises ArtifactError where the layout is another."""
        return self._spectral()[1]

    def _spectral(self) -> tuple[SpectralTables, ContextTables]:
        if isinstance(self.layout_tables, RegisterTables):
            raise ArtifactError(
                f"model {self.config.name} has the layout {self.config.layout}, this needs 'spectral'"
            )
        return self.layout_tables

    @property
    def digest(self) -> str:
        """SHA-256 of config and all weights, 64 hex digits: names the pixels that come out."""
        return str(self.manifest["digest"])

    @property
    def fingerprint(self) -> str:
        """Eight hex digits that a stream's header carries: names what tokens mean (docs/decisions/0004)."""
        return str(self.manifest["fingerprint"])

    @classmethod
    def load(cls, name_or_path: str | Path = "default") -> ModelArtifact:
        """Read and verify a folder, or a model that ships with the package. Raises ArtifactError."""
        path = resolve(name_or_path)
        manifest = read_manifest(path)
        config = TokenizerConfig.from_json(read_verified(path, "config.json", manifest).decode())
        contents = {name: read_verified(path, name, manifest) for name in files_of(config.layout)}
        graphs = {name: contents[name] for name in GRAPHS}
        if REFINER in manifest["files"]:
            graphs[REFINER] = read_verified(path, REFINER, manifest)
        return cls(path, config, _read_tables(config.layout, contents), manifest, graphs)


def files_of(layout: str) -> tuple[str, ...]:
    """Files that a model of this layout has, besides manifest and refiner."""
    return REGISTER_FILES if layout == "register" else FILES


def resolve(name_or_path: str | Path) -> Path:
    """Folder of a shipped model ("default", a name) or of a path. Raises ArtifactError."""
    name = DEFAULT_MODEL if str(name_or_path) == "default" else str(name_or_path)
    for folder in (PRETRAINED / name, Path(name_or_path)):
        if (folder / "manifest.json").is_file():
            return folder
    raise ArtifactError(f"no model {name!r}: not a folder with manifest.json, and shipped are {shipped()}")


def shipped() -> list[str]:
    """Names of the models in the package."""
    return sorted(p.parent.name for p in PRETRAINED.glob("*/manifest.json"))


def tables_to_bytes(tables: SpectralTables | ContextTables | RegisterTables) -> bytes:
    """Compressed npz of all arrays."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{f.name: getattr(tables, f.name) for f in dataclasses.fields(tables)})
    return buffer.getvalue()


def tables_from_bytes(kind: type[Tables], data: bytes) -> Tables:
    """Inverse of `tables_to_bytes`. Raises ArtifactError."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return kind(**{f.name: arrays[f.name] for f in dataclasses.fields(kind)})
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{kind.__name__} cannot be read: {error}") from error


def _read_tables(
    layout: str, contents: dict[str, bytes]
) -> tuple[SpectralTables, ContextTables] | RegisterTables:
    if layout == "register":
        return tables_from_bytes(RegisterTables, contents["registers.npz"])
    return (
        tables_from_bytes(SpectralTables, contents["tables.npz"]),
        tables_from_bytes(ContextTables, contents["contexts.npz"]),
    )


def sha256(data: bytes) -> str:
    """Hex digest."""
    return hashlib.sha256(data).hexdigest()


def read_manifest(path: Path) -> dict[str, Any]:
    """Hashes, names and facts of a model folder. Raises ArtifactError."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        hashes, digest, fingerprint = (manifest[name] for name in ("files", "digest", "fingerprint"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path.name}/manifest.json cannot be read: {error}") from error
    named = isinstance(digest, str) and isinstance(fingerprint, str)
    if not isinstance(hashes, dict) or not named or (len(digest), len(fingerprint)) != (64, 8):
        raise ArtifactError(f"{path.name}/manifest.json lacks file hashes, digest or fingerprint")
    return dict(manifest)


def read_verified(path: Path, name: str, manifest: dict[str, Any]) -> bytes:
    """One of its files, if it is the one that the manifest names. Raises ArtifactError."""
    try:
        data = (path / name).read_bytes()
    except OSError as error:
        raise ArtifactError(f"model {path.name} lacks {name}: {error.strerror}") from error
    if sha256(data) != manifest["files"].get(name):
        raise ArtifactError(f"model {path.name}: {name} is not the file that the manifest names")
    return data
