"""Does asking for a quality give that quality, and at how many bytes more than needed?

    python -m benchmarks.halting --images FOLDER [--crop 256] [--model PATH]

For each target PSNR and coverage, prints and writes `benchmarks/results/halting-FOLDER.{md,json,png}`:

* met: share of pictures that reach the target at the length the tokenizer chose in its single pass, among
  those that reach it at any length (the others are counted as unreachable);
* bytes over oracle: tokens spent against the true shortest length, in total over these pictures. The
  oracle comes from real decodes: the first length of a fine grid that meets the target, then bisected to
  the token;
* given all: pictures that got all tokens, because the predicted curve did not promise the target;
* fixed length: what one length for all pictures would cost if it had to serve the same share of them;
* modes: the same for `verify` and `exact`, and how many decodes they spend on a picture;
* the error of the predicted curve: mean absolute and mean signed, at each of the 14 byte counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.progress import track

from benchmarks.command import facts, inputs, parser, run_name, write_results
from benchmarks.halting_report import Found, Outcome, as_json, page, plot
from benchmarks.ours import decode_prefixes
from benchmarks.pictures import Picture
from benchmarks.report import can_plot
from benchmarks.scores import BYTE_COUNTS, capped_psnr_db
from tokenizer import ImageTokenizer, TokenBudget, TokenSequence
from tokenizer.budget import MODES, Mode
from tokenizer.quality_search import quality_length

TARGETS_DB = tuple(range(18, 27))
COVERAGES = (0.9, 0.95)
# Neighbours 19 % apart; bisection then goes down to single tokens.
GRID = tuple(sorted({round(2 ** (step / 4)) for step in range(4 * 16 + 1)}))


@dataclass(slots=True)
class TrueCurve:
    """PSNR of one stream by real decodes, each length decoded once."""

    tokenizer: ImageTokenizer
    picture: Picture
    whole: TokenSequence
    _psnr_db: dict[int, float] = field(default_factory=dict)

    def psnr_db(self, lengths: Sequence[int]) -> list[float]:
        """PSNR at each length, decoded in batches where not known yet."""
        new = sorted(set(lengths) - self._psnr_db.keys())
        for length, pixels in decode_prefixes(self.tokenizer, self.whole, new).items():
            self._psnr_db[length] = capped_psnr_db(self.picture.pixels, pixels)
        return [self._psnr_db[length] for length in lengths]

    def grid(self) -> list[int]:
        """The lengths that are always measured: a fine grid, the byte counts, and all tokens."""
        return sorted({min(length, self.whole.length) for length in (*GRID, *BYTE_COUNTS, self.whole.length)})

    def shortest_lengths(self, targets_db: Sequence[float]) -> list[int | None]:
        """The oracle: per target the first grid length that meets it, bisected down; None if none does."""
        grid = self.grid()
        values = self.psnr_db(grid)
        brackets: dict[float, tuple[int, int]] = {}
        for target in targets_db:
            place = next((i for i, value in enumerate(values) if value >= target), None)
            if place is not None:
                brackets[target] = (grid[place - 1] if place else 0, grid[place])
        while any(high - low > 1 for low, high in brackets.values()):
            brackets = self._halved(brackets)
        return [brackets[target][1] if target in brackets else None for target in targets_db]

    def _halved(self, brackets: dict[float, tuple[int, int]]) -> dict[float, tuple[int, int]]:
        """One step of bisection for all targets at once: their decodes share batches."""
        middles = {target: (low + high) // 2 for target, (low, high) in brackets.items() if high - low > 1}
        values = dict(zip(middles, self.psnr_db(list(middles.values())), strict=True))
        halved = dict(brackets)
        for target, middle in middles.items():
            low, high = brackets[target]
            halved[target] = (low, middle) if values[target] >= target else (middle, high)
        return halved


def measure(tokenizer: ImageTokenizer, picture: Picture) -> Found:
    """Everything the report needs about one picture."""
    (whole,) = tokenizer.encode([picture.pixels])
    if whole.curve is None:
        raise SystemExit(f"model {tokenizer.fingerprint} predicts no quality: there is nothing to measure")
    true = TrueCurve(tokenizer, picture, whole)
    oracle = true.shortest_lengths(TARGETS_DB)
    outcomes = [
        _outcome(true, float(target), coverage, mode, oracle_length)
        for target, oracle_length in zip(TARGETS_DB, oracle, strict=True)
        for coverage in COVERAGES
        for mode in MODES
    ]
    lengths = [min(count, whole.length) for count in BYTE_COUNTS]
    predicted = [whole.curve.psnr_db_at(length) for length in lengths]
    grid = true.grid()
    return Found(
        picture.name,
        tuple(outcomes),
        tuple(np.subtract(predicted, true.psnr_db(lengths)).tolist()),
        dict(zip(grid, true.psnr_db(grid), strict=True)),
    )


def _outcome(
    true: TrueCurve, target_db: float, coverage: float, mode: Mode, oracle_length: int | None
) -> Outcome:
    """What `encode` would keep for this budget. The decodes that it asks for come from those already made."""
    asked: list[int] = []

    def measured(length: int) -> float:
        asked.append(length)
        return true.psnr_db([length])[0]

    budget = TokenBudget(min_psnr_db=target_db, coverage=coverage, mode=mode)
    chosen = quality_length(true.whole, budget, measured)
    return Outcome(
        target_db,
        coverage,
        chosen,
        chosen == true.whole.length,
        true.psnr_db([chosen])[0],
        oracle_length,
        mode,
        len(asked),
    )


def main() -> None:
    """Measure, print, write."""
    arguments = parser(__doc__).parse_args()
    pictures, tokenizer = inputs(arguments)
    name = run_name(arguments)
    found = [measure(tokenizer, picture) for picture in track(pictures, description="halting")]
    stem = arguments.results / f"halting-{name}"
    content = facts(name, len(found), tokenizer) | as_json(found)
    write_results(stem, page(found, name, tokenizer), content)
    if can_plot():
        plot(found, stem.with_suffix(".png"), title=f"{name}, model {tokenizer.fingerprint}")


if __name__ == "__main__":
    main()
