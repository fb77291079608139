"""Units over which a worker process died: done again with care, until the guilty picture is known.

    1st try   as usual
    2nd ...   picture by picture, each written down before it is begun (the trail)
    a picture that was last in two tries in a row is guilty: it becomes an error, and the unit goes on

One death may be anything (memory, a node that goes): only the same picture twice is a verdict. Evidence holds
for one run of the job: a job that was killed says nothing about the pictures it was at.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from serving.batch.atomic import DRAFT_ENDING, write_json
from serving.batch.errors import WorkerLost
from serving.batch.reports import UnitReport
from serving.batch.units import Unit
from serving.batch.worker import UnitWorker

MAX_GUILTY = 10
"""Pictures of one unit that may kill a process; beyond that, something else is wrong."""
_MAX_DEATHS = 2 * MAX_GUILTY + 2


@dataclass(frozen=True, slots=True)
class CrashRecord:
    """What is known of earlier tries."""

    deaths: int = 0
    suspect: int | None = None
    guilty: tuple[int, ...] = ()

    @property
    def is_careful(self) -> bool:
        """True if the next try goes picture by picture."""
        return self.deaths > 0

    def as_begun(self, unit: Unit) -> Unit:
        """The unit for the next try."""
        return replace(unit, poison=self.guilty)

    def after_death(self, last_begun: int | None, unit: Unit) -> CrashRecord:
        """The record once a try has died over this picture. Raises WorkerLost if that goes on and on."""
        deaths, guilty, suspect = self.deaths + 1, self.guilty, last_begun
        if last_begun is not None and last_begun == self.suspect:
            guilty, suspect = (*self.guilty, last_begun), None
        if deaths > _MAX_DEATHS or len(guilty) > MAX_GUILTY:
            raise WorkerLost(
                f"worker processes died {deaths} times over {unit.name} ({unit.source}, samples {unit.start} "
                f"to {unit.stop - 1}); is there enough memory?"
            )
        return CrashRecord(deaths, suspect, guilty)


def run_recorded(worker: UnitWorker, unit: Unit, folder: Path) -> UnitReport:
    """The unit, with a record in the folder, where nobody who lives on sees a worker die.

    The record is there while the unit is in work: whichever process, actor or node tries next finds it.
    Raises WorkerLost, and what `run` raises.
    """
    path, trail = _record_path(folder, unit), trail_path(folder, unit)
    found = _read(path)
    record = CrashRecord() if found is None else found.after_death(last_begun(trail), unit)
    write_json(path, asdict(record))
    trail.unlink(missing_ok=True)
    report = worker.run(record.as_begun(unit), trail if record.is_careful else None)
    for file in (path, trail):
        file.unlink(missing_ok=True)
    return report


def trail_path(folder: Path, unit: Unit) -> Path:
    """Where a careful try writes the number of the picture in work."""
    return folder / f".{unit.name}.trail{DRAFT_ENDING}"


def last_begun(trail: Path) -> int | None:
    """The picture at which a careful try ended; None if it came to none."""
    try:
        return int(trail.read_text())
    except (FileNotFoundError, ValueError):
        return None


def _record_path(folder: Path, unit: Unit) -> Path:
    return folder / f".{unit.name}.tries{DRAFT_ENDING}"


def _read(path: Path) -> CrashRecord | None:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return CrashRecord(content["deaths"], content["suspect"], tuple(content["guilty"]))
