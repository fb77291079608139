"""Units over which a worker process died: done again with care, until the guilty picture is known.

    1st try   as usual
    2nd ...   picture by picture, each written down before it is begun (the trail)
    a picture that was last in two tries in a row is guilty: it becomes an error, and the unit goes on

One death may be anything (memory, a node that goes): only the same picture twice is a verdict. The record is
a file, so that it holds for whichever process, actor or node tries next.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from serving.batch.atomic import write_json
from serving.batch.errors import WorkerLost
from serving.batch.reports import UnitReport
from serving.batch.units import Unit
from serving.batch.worker import UnitWorker

MAX_GUILTY = 10
"""Pictures of one unit that may kill a process; beyond that, something else is wrong."""
_MAX_TRIES = 2 * MAX_GUILTY + 3


@dataclass(frozen=True, slots=True)
class CrashRecord:
    """What is known of earlier tries."""

    tries: int = 0
    suspect: int | None = None
    guilty: tuple[int, ...] = ()

    def after_death(self, last_begun: int | None) -> CrashRecord:
        """The record once a try has died over this picture."""
        if last_begun is None or last_begun != self.suspect:
            return replace(self, suspect=last_begun)
        return replace(self, suspect=None, guilty=(*self.guilty, last_begun))


def run_recorded(worker: UnitWorker, unit: Unit, folder: Path) -> UnitReport:
    """The unit, as often as it has been tried already. Raises WorkerLost, and what `run` raises."""
    path, trail = folder / f".{unit.name}.tries", folder / f".{unit.name}.trail"
    record = _read(path).after_death(_last_begun(trail))
    record = replace(record, tries=record.tries + 1)
    if record.tries > _MAX_TRIES or len(record.guilty) > MAX_GUILTY:
        raise WorkerLost(
            f"worker processes died {record.tries - 1} times over {unit.name} ; is there enough memory?"
        )
    write_json(path, asdict(record))
    trail.unlink(missing_ok=True)
    report = worker.run(replace(unit, poison=record.guilty), trail if record.tries > 1 else None)
    for file in (path, trail):
        file.unlink(missing_ok=True)
    return report


def _read(path: Path) -> CrashRecord:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return CrashRecord()
    return CrashRecord(content["tries"], content["suspect"], tuple(content["guilty"]))


def _last_begun(trail: Path) -> int | None:
    try:
        return int(trail.read_text())
    except (FileNotFoundError, ValueError):
        return None
