"""python -m training COMMAND: from pictures to an artifact; `--help` lists the commands."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokenizer.coding import Coding

if TYPE_CHECKING:  # torch takes seconds to import, and --help should not
    from training.config import TrainConfig
    from training.distributed import World
    from training.trainer import Trainer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """From pictures to an artifact."""


@app.command()
def recipes() -> None:
    """List the recipes."""
    from training.recipes import RECIPES

    for name, recipe in RECIPES.items():
        typer.echo(f"{name:16} {(recipe.__doc__ or '').splitlines()[0]}")


@app.command()
def train(
    data: Annotated[
        list[str],
        typer.Option(help="Shards (*.tar), Parquet files, folders or patterns in quotes; repeat it."),
    ],
    folder: Annotated[Path, typer.Option(help="Where the checkpoint and TensorBoard files go.")],
    recipe: Annotated[str, typer.Option(help="See `recipes`.")] = "small_256",
    start: Annotated[
        str | None,
        typer.Option(help="Checkpoint, artifact folder or shipped model to take tables and weights from."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Other number of steps than the recipe's.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most this many pictures.")] = None,
    settings: Annotated[
        list[str], typer.Option("--set", help="key=value, such as optim.learning_rate=3e-4; repeat it.")
    ] = [],  # noqa: B006 - typer reads it as the default and never changes it
) -> None:
    """Train a recipe, or resume the run that FOLDER holds. Under torchrun, on several GPUs."""
    from tokenizer.errors import ArtifactError
    from training.distributed import UnevenBatch, join_world
    from training.overrides import OverrideError, override
    from training.recipes import RECIPES
    from training.sources import DataRefused
    from training.start import StartRefused

    if recipe not in RECIPES:
        raise typer.BadParameter(f"unknown recipe {recipe!r}; there are {', '.join(RECIPES)}")
    config = RECIPES[recipe]()
    sources = dataclasses.replace(config.data, sources=tuple(data), limit=limit)
    config = dataclasses.replace(config, data=sources, num_steps=steps or config.num_steps)
    try:
        config = override(config, settings)
        with join_world() as world:
            _trainer(config, folder, start, world).run()
    except (OverrideError, DataRefused, UnevenBatch, StartRefused, ArtifactError) as error:
        raise typer.BadParameter(str(error)) from error


def _trainer(config: TrainConfig, folder: Path, start: str | None, world: World) -> Trainer:
    """Pictures of both splits and what trains on them."""
    from training.data import NoPictures, load_pictures
    from training.layouts import trainer_kind

    quiet = not world.is_first
    # One process asks for the memory of all: the others might already see it taken.
    copies = world.local_size if world.local_rank == 0 else 0
    pictures = load_pictures(config.data, "train", processes=copies, quiet=quiet)
    held_out = None
    if world.is_first and (config.validate_every or config.sheet_every):
        try:
            some = dataclasses.replace(config.data, limit=config.validation_pictures)
            held_out = load_pictures(some, "validation")
        except NoPictures:
            typer.echo("no validation: no picture falls into that split (see data.held_out_share)")
    return trainer_kind(config)(config, pictures, folder, start, held_out, world)


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Option(help="checkpoint.pt of a run.")],
    data: Annotated[
        list[str], typer.Option(help="The data of that run: the head is fitted on held-out keys.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the artifact.")],
    name: Annotated[str, typer.Option(help="Name of the model.")] = "tessera-small",
    version: Annotated[str, typer.Option(help="Version of the model.")] = "0.3.0",
    linear: Annotated[bool, typer.Option(help="Export the linear codec that training started from.")] = False,
    head_pictures: Annotated[
        int, typer.Option(help="Training pictures that the head is fitted on, too.")
    ] = 1500,
) -> None:
    """Fit and calibrate the halting head, export to ONNX, check parity, write the artifact."""
    from training.release import NoLinearCodec, release

    try:
        digest = release(checkpoint, tuple(data), out, name, version, linear, head_pictures)
    except NoLinearCodec as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(f"{out}: digest {digest[:8]}")


@app.command()
def quantize(
    model: Annotated[str, typer.Option(help="Shipped model or artifact folder, fp32.")],
    data: Annotated[list[str], typer.Option(help="The data of its run: shards or folders; repeat it.")],
    out: Annotated[Path, typer.Option(help="Folder of the int8 artifact.")],
    name: Annotated[str | None, typer.Option(help="Name of the int8 model; else NAME-int8.")] = None,
    pictures: Annotated[
        int, typer.Option(help="Held-out pictures that both precisions are measured on.")
    ] = 100,
    max_loss_db: Annotated[
        float, typer.Option(help="Refuse to write if mean PSNR falls by more at any length.")
    ] = 0.03,
) -> None:
    """Write the int8 sibling of an fp32 artifact: ranges from training pictures, quality measured."""
    from training.quantize import quantize_artifact

    digest = quantize_artifact(model, tuple(data), out, name, pictures, max_loss_db)
    typer.echo(f"{out}: digest {digest[:8]}")


@app.command()
def calibrate(
    data: Annotated[list[str], typer.Option(help="Your own pictures: shards or folders; repeat it.")],
    out: Annotated[Path, typer.Option(help="Folder of the calibrated artifact.")],
    model: Annotated[str, typer.Option(help="Shipped model or artifact folder to start from.")] = "default",
    refit: Annotated[
        bool, typer.Option("--refit", help="Fit a new head, too: worth it from about 1,000 pictures.")
    ] = False,
    limit: Annotated[int | None, typer.Option(help="At most this many pictures of each split.")] = None,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="DATA is the model's own: use its calibration split only.")
    ] = False,
    codings: Annotated[
        list[Coding], typer.Option("--coding", help="Measure these; others keep their margins.")
    ] = list(Coding),  # noqa: B006 - as above
) -> None:
    """Make the promised quality hold on your own pictures; streams stay readable by the original model."""
    from training.calibrate import calibrate as calibrate_artifact

    if refit and (held_out or set(codings) != set(Coding)):
        raise typer.BadParameter("--refit makes its own split and measures both codings")
    options = {"limit": limit, "held_out": held_out, "codings": tuple(codings)}
    facts = calibrate_artifact(model, tuple(data), out, refit=refit, **options)
    typer.echo(f"{out}: " + ", ".join(f"{name} {value:g}" for name, value in facts.items()))


@app.command()
def recode(
    model: Annotated[str, typer.Option(help="Shipped model or artifact folder, its own tables unread.")],
    out: Annotated[Path, typer.Option(help="Folder of the new artifact.")],
    version: Annotated[str, typer.Option(help="Version of the new model.")],
    data: Annotated[
        list[str] | None, typer.Option(help="The data of its run: shards or folders; repeat it.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Other number of training pictures.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Other number of steps of each fit.")] = None,
    like: Annotated[
        str | None, typer.Option(help="Take tables and margins from this sibling instead of fitting them.")
    ] = None,
) -> None:
    """Fit the tables of the range coding anew: no training. The new model refuses streams of the old one."""
    from tokenizer.errors import ArtifactError
    from training.recode import recode as recode_artifact

    if bool(data) == bool(like):
        raise typer.BadParameter("give either --data or --like")
    try:
        fingerprint = recode_artifact(
            model, tuple(data or ()), out, version, limit=limit, steps=steps, like=like
        )
    except ArtifactError as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(
        f"{out}: fingerprint {fingerprint}" + ("" if like else "; margins are next: calibrate --held-out")
    )


@app.command()
def refine(
    checkpoint: Annotated[
        Path, typer.Option(help="checkpoint.pt of the tokenizer's run; it stays as it is.")
    ],
    data: Annotated[list[str], typer.Option(help="WebDataset shards (*.tar) or folders; repeat it.")],
    folder: Annotated[Path, typer.Option(help="Where the refiner's checkpoints and scalars go.")],
    recipe: Annotated[
        str, typer.Option(help="Name of a refiner_ function in training/recipes.py.")
    ] = "refiner_small_256",
    steps: Annotated[int | None, typer.Option(help="Other number of steps than the recipe's.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most this many pictures.")] = None,
) -> None:
    """Train the realism decoder of a trained tokenizer, or resume the run that FOLDER holds."""
    from training.data import load_pictures
    from training.realism import RefinerTrainer
    from training.recipes import REFINER_RECIPES

    if recipe not in REFINER_RECIPES:
        raise typer.BadParameter(f"unknown recipe {recipe!r}; there are {', '.join(REFINER_RECIPES)}")
    config = REFINER_RECIPES[recipe]()
    sources = dataclasses.replace(config.data, sources=tuple(data), limit=limit)
    config = dataclasses.replace(config, data=sources, num_steps=steps or config.num_steps)
    RefinerTrainer(config, checkpoint, load_pictures(config.data, "train"), folder).run()


@app.command()
def attach(
    refiner: Annotated[Path, typer.Option(help="checkpoint.pt of a `refine` run.")],
    model: Annotated[Path, typer.Option(help="Artifact folder of the tokenizer it was trained on.")],
    data: Annotated[
        list[str] | None, typer.Option(help="The data of its run, for int8 artifacts: ranges and a check.")
    ] = None,
    time_power: Annotated[float, typer.Option(help="The sampler's times are (i / steps) ** this.")] = 2.0,
    gain: Annotated[float, typer.Option(help="Share of the walk that realism 1 shows.")] = 1.0,
    detail: Annotated[
        tuple[int, float, float] | None,
        typer.Option(help="Show fine grey detail only: side_px, contrast and power of tokenizer/detail.py."),
    ] = None,
) -> None:
    """Export a refiner into an artifact, which can then decode with realism. Its streams stay valid."""
    from tokenizer.detail import DetailFacts
    from training.refiner_export import NoPicturesGiven, attach_refiner

    shown = DetailFacts(*detail) if detail else None
    try:
        attach_refiner(refiner, model, tuple(data or ()), time_power, gain, shown)
    except NoPicturesGiven as error:
        raise typer.BadParameter(str(error)) from error
    typer.echo(f"{model}: decodes with realism")


@app.command()
def evaluate(
    model: Annotated[str, typer.Option(help="Shipped model or artifact folder.")],
    data: Annotated[list[str], typer.Option(help="Shards or folders, all of whose pictures are used.")],
    limit: Annotated[int | None, typer.Option(help="At most this many pictures.")] = None,
) -> None:
    """Print mean PSNR of an artifact at each byte count (benchmarks/ compares with other codecs)."""
    from training.evaluate import evaluate_artifact, markdown

    typer.echo(markdown(evaluate_artifact(model, tuple(data), limit)))


if __name__ == "__main__":
    app()
