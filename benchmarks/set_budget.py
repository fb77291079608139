"""One total of bytes for a set of pictures: shared by slope or by need, against the same bytes for each.

    python -m benchmarks.set_budget --images FOLDER [--crop 256] [--model PATH]

At each mean size, all splits spend the same total of tokens and are decoded for real. Prints and writes
`benchmarks/results/set_budget-FOLDER.{md,json}`: mean PSNR, PSNR of the mean squared error, and the PSNR of
the worst picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from rich.progress import track

from benchmarks.command import facts, heading, inputs, parser, run_name, write_results
from benchmarks.ours import BATCH_SIZE
from benchmarks.pictures import Picture
from benchmarks.report import environment_line, markdown_table, number
from tokenizer import ImageTokenizer, TokenSequence
from tokenizer.allocation import GOALS, allocate
from tokenizer.quality import DATA_RANGE, mse

MEAN_BYTES = (64, 128, 256, 512, 1024)
EQUAL_BYTES = "equal bytes"
SPLITS = {EQUAL_BYTES: "equal bytes each"} | dict(
    zip(GOALS, ("least mean squared error", "highest mean PSNR", "best worst picture"), strict=True)
)


@dataclass(frozen=True, slots=True)
class Row:
    """One split of one total, decoded."""

    mean_bytes: int
    split: str
    total_bytes: int
    mean_psnr_db: float
    psnr_of_mean_mse_db: float
    worst_psnr_db: float
    shortest: int
    longest: int


def measure(
    tokenizer: ImageTokenizer, pictures: Sequence[Picture], wholes: Sequence[TokenSequence], mean_bytes: int
) -> list[Row]:
    """Every split of `mean_bytes` times the number of pictures."""
    total = mean_bytes * len(wholes)
    splits = {EQUAL_BYTES: [whole.prefix(mean_bytes) for whole in wholes]}
    splits |= {goal: allocate(wholes, total, goal=goal, bare=True) for goal in GOALS}
    return [_row(tokenizer, pictures, cut, mean_bytes, split) for split, cut in splits.items()]


def _row(
    tokenizer: ImageTokenizer,
    pictures: Sequence[Picture],
    cut: Sequence[TokenSequence],
    mean_bytes: int,
    split: str,
) -> Row:
    errors: list[float] = []
    for start in range(0, len(cut), BATCH_SIZE):
        decoded = tokenizer.decode(cut[start : start + BATCH_SIZE])
        errors += [mse(p.pixels, d) for p, d in zip(pictures[start:], decoded, strict=False)]
    psnr_db = 10 * np.log10(DATA_RANGE**2 / np.asarray(errors))
    lengths = [one.length for one in cut]
    return Row(
        mean_bytes,
        split,
        sum(lengths),
        float(psnr_db.mean()),
        float(10 * np.log10(DATA_RANGE**2 / np.mean(errors))),
        float(psnr_db.min()),
        min(lengths),
        max(lengths),
    )


def page(rows: Sequence[Row], title: str, picture_count: int, tokenizer: ImageTokenizer) -> str:
    """Markdown: one table."""
    header = [
        "mean bytes",
        "split",
        "mean PSNR, dB",
        "PSNR of mean MSE, dB",
        "worst picture, dB",
        "fewest … most bytes",
    ]
    cells = [
        [
            str(row.mean_bytes),
            SPLITS[row.split],
            number(row.mean_psnr_db),
            number(row.psnr_of_mean_mse_db),
            number(row.worst_psnr_db),
            f"{row.shortest} … {row.longest}",
        ]
        for row in rows
    ]
    parts = [
        heading(f"One total of bytes for {title}", "set_budget", picture_count, tokenizer),
        "Bare tokens.",
        markdown_table(header, cells),
        environment_line(),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Measure, print, write."""
    arguments = parser(__doc__).parse_args()
    pictures, tokenizer = inputs(arguments)
    wholes = [tokenizer.encode([picture.pixels])[0] for picture in pictures]
    rows = [
        row
        for mean_bytes in track(MEAN_BYTES, description="set budget")
        for row in measure(tokenizer, pictures, wholes, mean_bytes)
    ]
    name = run_name(arguments)
    content = facts(name, len(pictures), tokenizer) | {"rows": [asdict(row) for row in rows]}
    stem = arguments.results / f"set_budget-{name}"
    write_results(stem, page(rows, name, len(pictures), tokenizer), content)


if __name__ == "__main__":
    main()
