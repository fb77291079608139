"""What can end a batch job. A bad picture never does: it becomes a row with its error."""

from __future__ import annotations


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


class WorkerLost(BatchError):
    """Workers died over one unit again and again."""

    reason = "WORKER_LOST"


class PackageMissing(BatchError):
    """An optional package is needed for this source, sink or engine."""

    reason = "PACKAGE_MISSING"
