"""What does the range coding save over the fixed one?

    python -m benchmarks.codings --images FOLDER [--crop 256] [--model PATH]

Mean PSNR of both codings at each byte count, with the decoder network and without, and how many bytes fewer
the range coding takes for what the fixed coding shows (interpolated in log bytes). Writes
`benchmarks/results/codings-FOLDER.{md,json}`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.command import facts, heading, inputs, parser, run_name, write_results
from benchmarks.linear import LinearTokenizer
from benchmarks.ours import measure_tokens_and_files
from benchmarks.pictures import Picture
from benchmarks.report import markdown_table, number, percent
from benchmarks.scores import BYTE_COUNTS
from tokenizer import Coding, ImageTokenizer

Means = dict[str, list[float]]


def mean_psnr_db(tokenizer: ImageTokenizer, pictures: Sequence[Picture], coding: Coding) -> list[float]:
    """Of bare tokens, at each byte count."""
    tokens, _ = measure_tokens_and_files(tokenizer, pictures, BYTE_COUNTS, str(coding), coding)
    columns = zip(*tokens.rows, strict=True)
    return [float(np.mean([score.psnr_db for score in column if score])) for column in columns]


def saved_shares(fixed_db: Sequence[float], range_db: Sequence[float]) -> list[float]:
    """Share of the fixed coding's bytes that the range coding does not need for the same PSNR.

    >>> [round(share, 2) for share in saved_shares([18.0, 19.0], [18.0, 20.0])][:1]
    [0.0]
    """
    log_bytes = np.log(BYTE_COUNTS[: len(range_db)])
    needed = np.exp(np.interp(fixed_db, range_db, log_bytes))
    return [float(1 - one / count) for one, count in zip(needed, BYTE_COUNTS, strict=False)]


def main() -> None:
    """Measure, print, write."""
    arguments = parser(__doc__).parse_args()
    pictures, tokenizer = inputs(arguments)
    linear = LinearTokenizer(tokenizer.artifact, num_threads=arguments.threads)
    means = {
        f"{coding} coding, {name}": mean_psnr_db(one, pictures, coding)
        for name, one in (("with network", tokenizer), ("linear", linear))
        for coding in Coding
    }
    saved = {
        name: saved_shares(means[f"fixed coding, {name}"], means[f"range coding, {name}"])
        for name in ("with network", "linear")
    }
    name = run_name(arguments)
    header = ["bytes", *(str(count) for count in BYTE_COUNTS)]
    rows = [[label, *(number(value) for value in values)] for label, values in means.items()]
    rows += [[f"bytes saved, {label}", *(percent(v) for v in values)] for label, values in saved.items()]
    text = "\n\n".join(
        (
            heading(f"Two codings on {name}", "codings", len(pictures), tokenizer),
            "Mean PSNR in dB; bytes saved at the PSNR that the fixed coding has there; the first is a lower "
            "bound: below 16 bytes nothing was measured.",
            markdown_table(header, rows),
        )
    )
    content = {**facts(name, len(pictures), tokenizer), "mean_psnr_db": means, "saved": saved}
    write_results(arguments.results / f"codings-{name}", text + "\n", content)


if __name__ == "__main__":
    main()
