"""One total of bytes for a set of pictures: shared by slope or by need, against the same bytes for each.

    python -m benchmarks.set_budget --images FOLDER [--crop 256] [--model PATH]

At each mean size, all splits spend the same total of tokens and are decoded for real. Prints and writes
`benchmarks/results/set_budget-FOLDER.{md,json}`: mean PSNR, PSNR of the mean squared error, and the PSNR of
the worst picture.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from benchmarks.ours import BATCH_SIZE
from benchmarks.pictures import Picture, load_pictures
from benchmarks.report import RESULTS, environment, environment_line, markdown_table, number, write_json
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


def page(rows: Sequence[Row], *, title: str, count: int, fingerprint: str) -> str:
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
        f"# One total of bytes for {title}, {count} pictures",
        f"Model fingerprint `{fingerprint}`, bare tokens. Written by `python -m benchmarks.set_budget`.",
        markdown_table(header, cells),
        environment_line(),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Measure, print, write."""
    arguments = _parse()
    pictures = load_pictures(arguments.images, crop_px=arguments.crop, limit=arguments.limit)
    name = f"{arguments.images.resolve().name}{f'-{arguments.crop}' if arguments.crop else ''}"
    tokenizer = ImageTokenizer.from_pretrained(arguments.model, num_threads=arguments.threads)
    wholes = [tokenizer.encode([picture.pixels])[0] for picture in pictures]
    rows = [
        row
        for mean_bytes in track(MEAN_BYTES, description="set budget")
        for row in measure(tokenizer, pictures, wholes, mean_bytes)
    ]
    text = page(rows, title=name, count=len(pictures), fingerprint=tokenizer.fingerprint)
    stem = arguments.results / f"set_budget-{name}"
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".md").write_text(text)
    facts = {
        "pictures": name,
        "count": len(pictures),
        "fingerprint": tokenizer.fingerprint,
        "environment": environment(),
        "rows": [asdict(row) for row in rows],
    }
    write_json(stem.with_suffix(".json"), facts)
    print(text)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--crop", type=int, help="short side resized to this, centre square")
    parser.add_argument("--limit", type=int, help="only the first pictures")
    parser.add_argument("--model", default="default", help="name or folder of the artifact")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
