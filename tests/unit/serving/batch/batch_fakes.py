"""What the tests of batch jobs share: small data sets, and an engine in this process without a model."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from cli_fakes import ThumbnailTokenizer
from PIL import Image

from serving.batch.decode_options import DecodeOptions
from serving.batch.decode_worker import open_decode_worker
from serving.batch.encoder import SampleEncoder
from serving.batch.job import Job
from serving.batch.options import EncodeOptions
from serving.batch.repeats import decode_units, encode_units
from serving.batch.reports import Totals, UnitReport
from serving.batch.sinks import open_sink
from serving.batch.sources import open_sources
from serving.batch.units import Plan, Unit
from serving.batch.worker import CutWorker, EncodeWorker, UnitWorker, WholeWorker, WorkerSettings
from tokenizer.images import read_image

FACTS = {"model": "thumbnail", "fingerprint": "00c0ffee"}


def picture_file(seed: int, format: str = "PNG") -> bytes:
    """A small picture that no other seed gives."""
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 12 + seed % 5, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format)
    return out.getvalue()


def write_tree(folder: Path, count: int) -> Path:
    """Pictures in two folders."""
    for number in range(count):
        path = folder / f"{'ab'[number % 2]}" / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture_file(number))
    return folder


def write_tar(path: Path, count: int, bad: tuple[int, ...] = ()) -> Path:
    """A WebDataset shard with a label beside each picture; numbers in `bad` are no pictures."""
    with tarfile.open(path, "w") as shard:
        for number in range(count):
            data = b"<html>" if number in bad else picture_file(number)
            _add(shard, f"x/{number:03d}", {".png": data, ".cls": str(number).encode()})
    return path


def write_parquet(path: Path, count: int, rows_per_group: int = 3) -> Path:
    """As Hugging Face writes it; the last row has no picture."""
    rows = [{"bytes": picture_file(n), "path": f"{n}.png"} for n in range(count - 1)]
    column = pyarrow.array([*rows, {"bytes": None, "path": None}])
    pyarrow.parquet.write_table(pyarrow.table({"image": column}), path, row_group_size=rows_per_group)
    return path


def _add(shard: tarfile.TarFile, key: str, fields: Mapping[str, bytes]) -> None:
    for ending, data in fields.items():
        member = tarfile.TarInfo(key + ending)
        member.size = len(data)
        shard.addfile(member, io.BytesIO(data))


class InProcess:
    """An engine that runs units here, with the thumbnail tokenizer, and stops after some if told to."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.left = stop_after
        self.ran: list[int] = []

    @property
    def facts(self) -> dict[str, object]:
        return {"engine": "in process"}

    def samples_in_work(self) -> int:
        return 0

    def run(self, settings: WorkerSettings, units: Iterator[Unit]) -> Iterator[UnitReport]:
        worker = fake_worker(settings)
        for unit in units:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left = None if self.left is None else self.left - 1
            self.ran.append(unit.index)
            yield worker.run(unit)


def fake_worker(settings: WorkerSettings) -> UnitWorker:
    """As `make_worker`, with the thumbnail tokenizer."""
    if isinstance(settings.options, DecodeOptions):
        return open_decode_worker(settings.folder, settings.options, ThumbnailTokenizer())
    encoder = SampleEncoder(ThumbnailTokenizer(), settings.options)
    if settings.phase == "whole":
        return WholeWorker(settings, encoder)
    sink = open_sink(settings.folder, settings.options, FACTS)
    if settings.phase == "cut":
        return CutWorker(settings, sink)
    return EncodeWorker(settings, encoder, sink)


def job(folder: Path, source: Path | Sequence[Path], engine: InProcess | None = None, **changes) -> Job:
    """A job over one source or some, with units of three pictures."""
    names = (source,) if isinstance(source, Path) else source
    options = replace(EncodeOptions(tuple(map(str, names)), unit_size=3), **changes)
    sources = open_sources(options.sources, image_column="image")

    def units() -> Iterator[Unit]:
        return encode_units(sources, options)

    settings = WorkerSettings(folder, options, FACTS)
    return Job(settings, Plan.of(units()), units, engine or InProcess())


def run(folder: Path, source: Path | Sequence[Path], engine: InProcess | None = None, **changes) -> Totals:
    """The job from beginning to end."""
    return job(folder, source, engine, **changes).run()


def decode(
    folder: Path, source: Path | str | Sequence[Path], engine: InProcess | None = None, **changes
) -> Totals:
    """A job that rebuilds pictures, from beginning to end."""
    names = (source,) if isinstance(source, Path | str) else source
    options = DecodeOptions(tuple(map(str, names)), **{"unit_size": 3, **changes})

    def units() -> Iterator[Unit]:
        return decode_units(options)

    settings = WorkerSettings(folder, options, FACTS)
    return Job(settings, Plan.of(units()), units, engine or InProcess()).run()


def pictures(folder: Path) -> dict[str, np.ndarray]:
    """Every picture below a folder, by its path."""
    files = (path for path in sorted(folder.rglob("*.*")) if path.suffix in (".png", ".jpg", ".webp"))
    return {path.relative_to(folder).as_posix(): read_image(path.read_bytes()) for path in files}


def outputs(folder: Path) -> dict[str, bytes]:
    """Every file that a user takes away."""
    endings = (".parquet", ".tar", ".tsr", ".png", ".jsonl")
    files = (path for path in sorted(folder.rglob("*")) if path.suffix in endings)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
