"""Many pictures under one total of bytes: encode all, share the total, write all. Knows no models."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from serving.batch.options import SetBudget
from serving.cli.files import Job, read_input
from serving.cli.report import Result, run_each
from tokenizer.allocation import allocate
from tokenizer.errors import ArtifactError, CodingUnsupported, ProviderError, TokenizerError
from tokenizer.sequence import TokenSequence


def run_set(
    jobs: Sequence[Job],
    encode: Callable[[bytes], TokenSequence],
    written: Callable[[TokenSequence], Result],
    budget: SetBudget,
    *,
    bare: bool,
    as_json: bool,
) -> int:
    """Encode each job, cut all to the total, write and report. Returns the exit code.

    Bad inputs are reported and take no bytes. Raises InvalidBudget if the others do not fit, and what
    `run_each` raises.
    """
    found = {job: _encoded(job, encode) for job in jobs}
    wholes = {job: one for job, one in found.items() if isinstance(one, TokenSequence)}
    shared = allocate(
        list(wholes.values()),
        budget.total_bytes,
        goal=budget.goal,
        min_bytes=budget.min_bytes,
        max_bytes=budget.max_bytes,
        bare=bare,
    )
    cut = dict(zip(wholes, shared, strict=True))
    spent = sum(one.length if bare else len(one.to_bytes()) for one in shared)
    if shared and shared == list(wholes.values()) and spent < budget.total_bytes:
        note = f"note: all tokens take {spent} of {budget.total_bytes} bytes; --canvas-area makes more"
        print(note, file=sys.stderr)

    def work(job: Job) -> Result:
        outcome = found[job]
        if isinstance(outcome, Exception):
            raise outcome
        return written(cut[job])

    return run_each(jobs, work, as_json=as_json)


def _encoded(job: Job, encode: Callable[[bytes], TokenSequence]) -> TokenSequence | TokenizerError | OSError:
    """The stream, or what is wrong with the input; what would fail for every input is raised."""
    try:
        return encode(read_input(job.source))
    except (ArtifactError, CodingUnsupported, ProviderError):
        raise
    except (TokenizerError, OSError) as error:
        return error
