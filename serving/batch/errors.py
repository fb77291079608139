"""What can end a batch job. A bad picture never does: it becomes a row with its error."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


class BatchError(Exception):
    """The job cannot start or go on."""

    reason = "BATCH_FAILED"


class SourceRefused(BatchError):
    """A source that cannot be read at all."""

    reason = "SOURCE_REFUSED"


class JobMismatch(BatchError):
    """The folder holds another job: other pictures, options or model."""

    reason = "JOB_MISMATCH"


class JobLocked(BatchError):
    """Another process works on this job."""

    reason = "JOB_LOCKED"


class TooManyErrors(BatchError):
    """More bad pictures than the job may have."""

    reason = "TOO_MANY_ERRORS"


class OutputUnwritable(BatchError):
    """The job's folder takes no more, or never did."""

    reason = "OUTPUT_UNWRITABLE"


class WorkerLost(BatchError):
    """Workers died over one unit again and again."""

    reason = "WORKER_LOST"


class PackageMissing(BatchError):
    """An optional package is needed for this source, sink or engine."""

    reason = "PACKAGE_MISSING"


class ClusterUnreachable(BatchError):
    """There is no Ray where one was expected, or it ended."""

    reason = "CLUSTER_UNREACHABLE"


def caught(work: Callable[[], Result]) -> Result | Exception:
    """What the work gives, or its error, ready to cross to another process: with its stack as a note."""
    try:
        return work()
    except Exception as error:
        error.add_note("".join(traceback.format_exception(error)))
        return error if _can_cross(error) else BatchError(f"{type(error).__name__}: {error}")


def _can_cross(error: Exception) -> bool:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its class does there
        return False
    return True
