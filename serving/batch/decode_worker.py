"""One unit of streams to pictures and report. Runs in any process, as the workers that encode."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from serving.batch.decode_options import DecodeOptions
from serving.batch.decoder import PictureDecoder, PictureRow, StreamDecoder
from serving.batch.picture_sinks import PictureSink, open_picture_sink, picture_path
from serving.batch.reports import UnitReport
from serving.batch.rows import KEY_REPEATED, Failure
from serving.batch.token_source import read_streams
from serving.batch.trail import Tick, no_tick, watched
from serving.batch.units import Unit


def open_decode_worker(folder: Path, options: DecodeOptions, tokenizer: PictureDecoder) -> DecodeWorker:
    """A worker that writes below the job's folder."""
    sink = open_picture_sink(folder, options)
    return DecodeWorker(folder, StreamDecoder(tokenizer, options), sink, options.ending)


class DecodeWorker:
    """Shard to pictures in one pass."""

    def __init__(self, folder: Path, decoder: StreamDecoder, sink: PictureSink, ending: str) -> None:
        self._folder, self._decoder, self._sink, self._ending = folder, decoder, sink, ending

    def run(self, unit: Unit, trail: Path | None = None, tick: Tick = no_tick) -> UnitReport:
        """See UnitWorker."""
        report, taken = UnitReport.of(unit), set[PurePosixPath]()
        samples = watched(read_streams(unit), unit.poison, trail)
        with self._sink.shard(unit) as write:
            for row in self._decoder.rows(samples, one_by_one=trail is not None):
                if failure := row.failure or self._second(unit, row, report.samples, taken):
                    report.add_failure(unit.source, row.key, failure)
                elif row.picture is None:
                    report.skipped += 1
                else:
                    write(row)
                    report.add_picture(row.length, len(row.picture))
                tick(report.samples)
        return report.write(self._folder)

    def _second(self, unit: Unit, row: PictureRow, number: int, taken: set[PurePosixPath]) -> Failure | None:
        """What is wrong with a picture that would lie where one lies already; else its place is taken."""
        if row.picture is None:
            return None
        place = picture_path(unit, row.key, self._ending)
        if number in unit.repeats or place in taken:
            return KEY_REPEATED
        taken.add(place)
        return None
