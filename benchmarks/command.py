"""What the benchmarks' command lines share: arguments, the name of a run, the files it writes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from benchmarks.pictures import Picture, load_pictures
from benchmarks.report import RESULTS, environment, write_json
from tokenizer import ImageTokenizer


def parser(description: str | None, *, crop_px: int | None = None) -> argparse.ArgumentParser:
    """Pictures, model, threads and results; `crop_px` is the default of `--crop`."""
    arguments = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--images", type=Path, required=True, help="folder or tar shard of pictures")
    arguments.add_argument(
        "--crop", type=int, default=crop_px, help="short side resized to this, centre square"
    )
    arguments.add_argument("--limit", type=int, help="only the first pictures")
    arguments.add_argument("--model", default="default", help="name or folder of the artifact")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--results", type=Path, default=RESULTS)
    return arguments


def inputs(arguments: argparse.Namespace) -> tuple[list[Picture], ImageTokenizer]:
    """The pictures and the model that a command line names."""
    pictures = load_pictures(arguments.images, crop_px=arguments.crop, limit=arguments.limit)
    return pictures, ImageTokenizer.from_pretrained(arguments.model, num_threads=arguments.threads)


def run_name(arguments: argparse.Namespace) -> str:
    """Name of the pictures and their crop, as in `kodak-256`."""
    images = arguments.images.resolve().name.removesuffix(".tar")
    return f"{images}-{arguments.crop}" if arguments.crop else images


def write_results(stem: Path, text: str, content: Mapping[str, object]) -> None:
    """The page and the JSON file, and the page on the screen."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".md").write_text(text)
    write_json(stem.with_suffix(".json"), content)
    print(text)


def facts(name: str, picture_count: int, tokenizer: ImageTokenizer) -> dict[str, object]:
    """What every JSON file begins with: pictures, model, machine."""
    model = model_facts(tokenizer)
    return {"pictures": name, "count": picture_count, "model": model, "environment": environment()}


def model_facts(tokenizer: ImageTokenizer) -> dict[str, str]:
    """Which model was measured."""
    return {fact: str(getattr(tokenizer, fact)) for fact in ("name", "version", "fingerprint", "digest")}


def heading(title: str, module: str, picture_count: int, tokenizer: ImageTokenizer) -> str:
    """The first lines of a page."""
    return (
        f"# {title}, {picture_count} pictures\n\n"
        f"Model `{tokenizer.name}` {tokenizer.version}, fingerprint `{tokenizer.fingerprint}`. "
        f"Written by `python -m benchmarks.{module}`."
    )
