"""encode, decode, truncate and info in this process. Knows no server; truncate loads no model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serving.cli import flags
from serving.cli.encode_set import run_set
from serving.cli.files import STREAM_ENDING, Job, plan_jobs
from serving.cli.report import EXIT_OK, Result, run_jobs, tell_facts
from serving.shortfall import measured_shortfall
from tokenizer.bitstream import VERSIONS, header_size_bytes
from tokenizer.budget import TokenBudget, choose_length
from tokenizer.canvas import Size, choose_canvas
from tokenizer.coding import Coding
from tokenizer.images import read_image, write_image
from tokenizer.quality import psnr_db
from tokenizer.sequence import TokenSequence

if TYPE_CHECKING:
    from tokenizer.image_tokenizer import ImageTokenizer


def encode(
    files: flags.Pictures,
    out: flags.Out = None,
    max_tokens: flags.MaxTokens = None,
    max_bytes: flags.MaxBytes = None,
    bits_per_pixel: flags.BitsPerPixel = None,
    min_psnr: flags.MinPsnr = None,
    coverage: flags.Coverage = None,
    mode: flags.QualityMode = "fast",
    total_bytes: flags.TotalBytes = None,
    goal: flags.GoalOfSet = "mse",
    min_bytes_each: flags.MinBytesEach = 0,
    max_bytes_each: flags.MaxBytesEach = None,
    coding: flags.CodingOfStream = None,
    canvas_area: flags.CanvasArea = None,
    bare: Annotated[
        bool,
        typer.Option("--bare", help="Write tokens without header; keep size, coding and model yourself."),
    ] = False,
    model: flags.Model = "default",
    provider: flags.Provider = ["cpu"],  # noqa: B006 (typer never changes it)
    threads: flags.Threads = 1,
    as_json: flags.Json = False,
) -> None:
    """Turn pictures into .tsr streams of which every prefix is a picture.

    Without a budget all tokens are kept; cut later with `tessera truncate`. With --total-bytes the pictures
    share one budget, and those that need more get more.
    """
    budget = flags.token_budget(max_tokens, max_bytes, bits_per_pixel, min_psnr, coverage, mode)
    shared = flags.set_budget(total_bytes, goal, min_bytes_each, max_bytes_each, budget)
    jobs = plan_jobs(files, out, STREAM_ENDING)
    tokenizer = load_tokenizer(model, provider, threads)

    def written(sequence: TokenSequence, warning: str | None = None) -> Result:
        packed = sequence.tokens if bare else sequence.to_bytes()
        return Result(packed, encoded_facts(sequence, len(packed)), warning)

    def work(data: bytes) -> Result:
        pixels = read_image(data)
        # All tokens, then the cut: a bare stream spends no bytes on a header, which the budget must know.
        (whole,) = tokenizer.encode([pixels], coding=coding, canvas_area_px=canvas_area)
        kept = tokenizer.cut(whole, budget, pixels, bare=bare)

        def measure(sequence: TokenSequence) -> float:
            return psnr_db(pixels, tokenizer.decode([sequence])[0])

        return written(kept, measured_shortfall(kept, whole, budget, measure))

    def encoded(data: bytes) -> TokenSequence:
        (whole,) = tokenizer.encode([read_image(data)], coding=coding, canvas_area_px=canvas_area)
        return whole

    if shared is None:
        raise typer.Exit(run_jobs(jobs, work, as_json=as_json))
    raise typer.Exit(run_set(jobs, encoded, written, shared, bare=bare, as_json=as_json))


def decode(
    files: flags.Streams,
    out: flags.Out = None,
    format: flags.Format = None,
    quality: flags.Quality = None,
    max_tokens: Annotated[int | None, typer.Option(min=0, help="Decode only this prefix.")] = None,
    realism: flags.RealismShare = 0.0,
    steps: flags.Steps = flags.DEFAULT_STEP_COUNT,
    seed: flags.Seed = 0,
    bare: Annotated[bool, typer.Option("--bare", help="The input has no header; needs --size.")] = False,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Size of the picture, for --bare.")] = None,
    coding: flags.CodingOfBare = None,
    canvas_area: flags.CanvasArea = None,
    model: flags.Model = "default",
    provider: flags.Provider = ["cpu"],  # noqa: B006 (typer never changes it)
    threads: flags.Threads = 1,
    as_json: flags.Json = False,
) -> None:
    """Turn .tsr streams, or any prefix of them, into pictures."""
    if bare != (size is not None):
        raise typer.BadParameter("--bare and --size WxH belong together")
    if coding is not None and not bare:
        raise typer.BadParameter("the header of a stream says its coding; give --coding with --bare only")
    source = flags.picture_size(size) if size is not None else None
    wanted = flags.realism(realism, steps, seed)
    format_name, ending = flags.picture_format(format, single_file(files, out))
    jobs = plan_jobs(files, out, ending)
    tokenizer = load_tokenizer(model, provider, threads)

    def work(data: bytes) -> Result:
        if source is None:
            sequence = TokenSequence.from_bytes(data)
        else:
            canvas = choose_canvas(source, canvas_area or tokenizer.canvas_area_px)
            sequence = TokenSequence(
                data, source, tokenizer.fingerprint, canvas, coding=coding or tokenizer.codings[0]
            )
        if max_tokens is not None:
            sequence = sequence.prefix(max_tokens)
        (pixels,) = tokenizer.decode(
            [sequence], realism=wanted.strength, steps=wanted.steps, seed=wanted.seed
        )
        picture = write_image(pixels, format_name, quality)
        return Result(
            picture, size_facts(sequence.source) | {"tokens": sequence.length, "bytes": len(picture)}
        )

    raise typer.Exit(run_jobs(jobs, work, as_json=as_json))


def truncate(
    files: flags.Streams,
    out: flags.Out = None,
    max_tokens: flags.MaxTokens = None,
    max_bytes: flags.MaxBytes = None,
    bits_per_pixel: flags.BitsPerPixel = None,
    as_json: flags.Json = False,
) -> None:
    """Cut .tsr streams; needs no model. Writing over the input is allowed if -o says so."""
    budget = flags.token_budget(max_tokens, max_bytes, bits_per_pixel)
    if budget is None:
        raise typer.BadParameter("give --max-tokens, --max-bytes or --bits-per-pixel")
    if out is None and files != ["-"]:
        raise typer.BadParameter("say where to write with -o", param_hint="--out")
    jobs = plan_jobs(files, out, STREAM_ENDING, in_place=True)

    def work(data: bytes) -> Result:
        sequence = cut(TokenSequence.from_bytes(data), budget)
        packed = sequence.to_bytes()
        return Result(packed, encoded_facts(sequence, len(packed)))

    raise typer.Exit(run_jobs(jobs, work, as_json=as_json))


def info(
    files: Annotated[list[str] | None, typer.Argument(metavar="[FILE...]", help=".tsr files, or -.")] = None,
    model: Annotated[str | None, typer.Option(help="Tell about this model instead.")] = None,
    as_json: flags.Json = False,
) -> None:
    """Tell what a .tsr stream or a model is. Without arguments: the default model."""
    if files and model is not None:
        raise typer.BadParameter("give files or --model, not both")
    if not files:
        raise typer.Exit(_model_info(model or "default", as_json))
    jobs = [Job(file, "") for file in files]
    raise typer.Exit(run_jobs(jobs, lambda data: Result(None, stream_facts(data)), as_json=as_json))


def load_tokenizer(model: str, providers: Sequence[str], threads: int) -> ImageTokenizer:
    """The model. Raises ArtifactError or ProviderError."""
    # Imported here: it brings a compiler, and the other commands work where there is none.
    from tokenizer.image_tokenizer import ImageTokenizer

    return ImageTokenizer.from_pretrained(model, providers=tuple(providers), num_threads=threads)


def cut(sequence: TokenSequence, budget: TokenBudget | None) -> TokenSequence:
    """The prefix of a stream that keeps the budget, without a model. Raises InvalidBudget."""
    length = choose_length(
        budget,
        available_tokens=sequence.length,
        header_size_bytes=header_size_bytes(sequence.source, sequence.canvas),
        source_area_px=sequence.source.area_px,
        curve=sequence.curve,
    )
    return sequence.prefix(length)


def encoded_facts(sequence: TokenSequence, size_bytes: int) -> dict[str, Any]:
    """What is told about a stream that was written."""
    predicted_db = sequence.predicted_psnr_db
    return size_facts(sequence.source) | {
        "bytes": size_bytes,
        "tokens": sequence.length,
        "bits_per_pixel": round(8 * size_bytes / sequence.source.area_px, 5),
        "predicted_psnr_db": None if predicted_db is None else round(predicted_db, 2),
        "coding": sequence.coding.value,
        "fingerprint": sequence.fingerprint,
    }


def size_facts(size: Size) -> dict[str, Any]:
    """Width and height as facts."""
    return {"width": size.width_px, "height": size.height_px}


def stream_facts(data: bytes) -> dict[str, Any]:
    """What a `.tsr` file is. Raises BitstreamError."""
    sequence = TokenSequence.from_bytes(data)
    canvas = {"canvas_width": sequence.canvas.width_px, "canvas_height": sequence.canvas.height_px}
    return encoded_facts(sequence, len(data)) | canvas | {"version": VERSIONS[sequence.coding]}


def single_file(files: Sequence[str], out: str | None) -> str | None:
    """`out` if it names one file, whose ending then says the format."""
    if out is None or len(files) > 1 or out.endswith("/") or Path(out).is_dir():
        return None
    return out


def _model_info(model: str, as_json: bool) -> int:
    tokenizer = load_tokenizer(model, ["cpu"], 1)
    canvas = choose_canvas(Size(256, 256))
    facts = {
        "name": tokenizer.name,
        "version": tokenizer.version,
        "fingerprint": tokenizer.fingerprint,
        "digest": tokenizer.digest,
        "max_tokens_at_256x256": tokenizer.max_tokens(canvas),
        "has_realism": tokenizer.has_realism,
        **{f"stream_version_{coding}": VERSIONS[coding] for coding in Coding},
    }
    tell_facts(facts, as_json=as_json)
    return EXIT_OK
