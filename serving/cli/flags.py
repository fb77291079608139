"""Flags that several commands share, and what they mean as values. Runs nothing."""

from __future__ import annotations

import re
from typing import Annotated, cast

import typer

from serving.batch.options import SetBudget
from tokenizer.allocation import GOALS
from tokenizer.budget import DEFAULT_COVERAGE, Mode, TokenBudget
from tokenizer.canvas import MAX_SOURCE_SIDE_PX, MULTIPLE_PX, Size
from tokenizer.coding import Coding
from tokenizer.errors import InvalidBudget, InvalidRealism
from tokenizer.images import WRITE_FORMATS
from tokenizer.realism import DEFAULT_STEPS, MAX_SEED, MAX_STEPS, Realism

_ENDINGS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}

Pictures = Annotated[list[str], typer.Argument(metavar="FILE...", help="Pictures, or - for stdin.")]
Streams = Annotated[list[str], typer.Argument(metavar="FILE...", help=".tsr files, or - for stdin.")]
Out = Annotated[
    str | None,
    typer.Option(
        "--out",
        "-o",
        metavar="PATH",
        help="File, folder (made if it ends in / or for many inputs) or - for stdout.",
    ),
]
MaxTokens = Annotated[
    int | None, typer.Option(min=1, help="At most this many tokens.", rich_help_panel="Budget")
]
MaxBytes = Annotated[
    int | None,
    typer.Option(min=1, help="At most this many bytes, header included.", rich_help_panel="Budget"),
]
BitsPerPixel = Annotated[
    float | None, typer.Option(help="At most this many bits per source pixel.", rich_help_panel="Budget")
]
MinPsnr = Annotated[
    float | None,
    typer.Option(
        "--min-psnr", help="The fewest tokens expected to reach this PSNR in dB.", rich_help_panel="Budget"
    ),
]
Coverage = Annotated[
    float | None,
    typer.Option(
        help="Share of pictures that must meet --min-psnr.",
        show_default=str(DEFAULT_COVERAGE),
        rich_help_panel="Budget",
    ),
]
QualityMode = Annotated[
    str,
    typer.Option(
        "--mode",
        help="How --min-psnr is kept: fast (as predicted), verify (two decodes at most) or exact (several).",
        rich_help_panel="Budget",
    ),
]
TotalBytes = Annotated[
    int | None,
    typer.Option(
        min=1, help="At most this many bytes for all pictures together.", rich_help_panel="Budget of a set"
    ),
]
GoalOfSet = Annotated[
    str,
    typer.Option(
        "--goal",
        help="What --total-bytes buys: least mse, highest mean psnr, or the best worst picture.",
        rich_help_panel="Budget of a set",
    ),
]
MinBytesEach = Annotated[
    int,
    typer.Option(min=0, help="With --total-bytes: no picture gets fewer.", rich_help_panel="Budget of a set"),
]
MaxBytesEach = Annotated[
    int | None,
    typer.Option(min=1, help="With --total-bytes: no picture gets more.", rich_help_panel="Budget of a set"),
]
CodingOfStream = Annotated[
    Coding | None,
    typer.Option(
        "--coding",
        help="range: fewest bytes, the default of a model that has it; fixed: every bit has one meaning, "
        "for language models.",
    ),
]
CodingOfBare = Annotated[
    Coding | None,
    typer.Option(
        "--coding", help="What --coding said when the --bare tokens were made; else the model's default."
    ),
]
CanvasArea = Annotated[
    int | None,
    typer.Option(
        min=MULTIPLE_PX**2, help="Pixels of the grid that the model works on; else what it was made for."
    ),
]
Model = Annotated[str, typer.Option(envvar="TESSERA_MODEL", help="Name of a shipped model, or a folder.")]
Provider = Annotated[list[str], typer.Option(help="Execution provider, most wanted first: cpu, cuda.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads of the model.")]
Format = Annotated[
    str | None,
    typer.Option(help="png, jpeg or webp; by default what the ending of the output says, else png."),
]
Quality = Annotated[int | None, typer.Option(min=1, max=100, help="Of jpeg and webp.")]
RealismShare = Annotated[
    float,
    typer.Option(
        "--realism",
        min=0,
        max=1,
        help="0: nearest to the source, smooth; 1: with detail that could be there.",
        rich_help_panel="Realism",
    ),
]
Steps = Annotated[
    int, typer.Option(min=1, max=MAX_STEPS, help="Passes of the refiner.", rich_help_panel="Realism")
]
Seed = Annotated[
    int,
    typer.Option(min=0, max=MAX_SEED, help="Another seed invents other detail.", rich_help_panel="Realism"),
]
Json = Annotated[
    bool, typer.Option("--json", help="One JSON object per input, on stdout (stderr if stdout carries data).")
]

DEFAULT_STEP_COUNT = DEFAULT_STEPS


def token_budget(
    max_tokens: int | None = None,
    max_bytes: int | None = None,
    bits_per_pixel: float | None = None,
    min_psnr_db: float | None = None,
    coverage: float | None = None,
    mode: str = "fast",
) -> TokenBudget | None:
    """The budget that the flags ask for; None if they ask for none. Raises typer.BadParameter."""
    if coverage is not None and min_psnr_db is None:
        raise typer.BadParameter(
            "it is the share of pictures that must meet --min-psnr: give both", param_hint="--coverage"
        )
    if max_tokens is max_bytes is bits_per_pixel is min_psnr_db is None and mode == "fast":
        return None
    try:
        share = DEFAULT_COVERAGE if coverage is None else coverage
        return TokenBudget(max_tokens, max_bytes, bits_per_pixel, min_psnr_db, share, cast(Mode, mode))
    except InvalidBudget as error:
        raise typer.BadParameter(str(error)) from error


def set_budget(
    total_bytes: int | None, goal: str, min_bytes: int, max_bytes: int | None, budget: TokenBudget | None
) -> SetBudget | None:
    """The total that the flags ask for; None if they ask for none. Raises typer.BadParameter."""
    if total_bytes is None:
        if goal != "mse" or min_bytes or max_bytes is not None:
            raise typer.BadParameter("--goal, --min-bytes-each and --max-bytes-each need --total-bytes")
        return None
    if budget is not None:
        raise typer.BadParameter("give --total-bytes or a budget of each picture, not both")
    if goal not in GOALS:
        raise typer.BadParameter(f"must be one of {', '.join(GOALS)}, got {goal!r}", param_hint="--goal")
    if max_bytes is not None and max_bytes < min_bytes:
        raise typer.BadParameter(f"--min-bytes-each {min_bytes} is above --max-bytes-each {max_bytes}")
    return SetBudget(total_bytes, goal, min_bytes, max_bytes)


def realism(strength: float, steps: int, seed: int) -> Realism:
    """What the flags ask for. Raises typer.BadParameter for what typer's own bounds let through (nan)."""
    try:
        return Realism(strength, steps, seed)
    except InvalidRealism as error:
        raise typer.BadParameter(str(error)) from error


def picture_size(text: str) -> Size:
    """`640x480` as a Size. Raises typer.BadParameter."""
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if match is None or max(map(int, match.groups())) > MAX_SOURCE_SIDE_PX:
        raise typer.BadParameter(f"must look like 640x480, got {text!r}", param_hint="--size")
    return Size(int(match[1]), int(match[2]))


def picture_format(asked: str | None, out: str | None) -> tuple[str, str]:
    """The format to write and its file ending. Raises typer.BadParameter for one that we do not write."""
    if asked is not None:
        name = {"jpg": "jpeg"}.get(asked.lower(), asked.lower())
        if name not in WRITE_FORMATS:
            raise typer.BadParameter(
                f"must be one of {', '.join(WRITE_FORMATS)}, got {asked!r}", param_hint="--format"
            )
        return name, {"jpeg": ".jpg"}.get(name, f".{name}")
    ending = re.search(r"\.[A-Za-z0-9]+$", out or "")
    if ending is None:
        return "png", ".png"
    if ending[0].lower() not in _ENDINGS:
        raise typer.BadParameter(
            f"no picture format has the ending {ending[0]}; say --format", param_hint="--out"
        )
    return _ENDINGS[ending[0].lower()], ending[0]
