"""python -m training {train,export,refine,attach,evaluate}: from pictures to an artifact."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """From pictures to an artifact."""


@app.command()
def train(
    data: Annotated[list[str], typer.Option(help="WebDataset shards (*.tar) or folders; repeat it.")],
    folder: Annotated[Path, typer.Option(help="Where checkpoints and TensorBoard scalars go.")],
    recipe: Annotated[str, typer.Option(help="Name of a function in training/recipes.py.")] = "small_256",
    start: Annotated[Path | None, typer.Option(help="Checkpoint to take tables and weights from.")] = None,
    steps: Annotated[int | None, typer.Option(help="Other number of steps than the recipe's.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most this many pictures.")] = None,
) -> None:
    """Train a recipe, or resume the run that FOLDER holds."""
    from training.data import load_pictures
    from training.recipes import RECIPES
    from training.trainer import Trainer

    if recipe not in RECIPES:
        raise typer.BadParameter(f"unknown recipe {recipe!r}; there are {', '.join(RECIPES)}")
    config = RECIPES[recipe]()
    sources = dataclasses.replace(config.data, sources=tuple(data), limit=limit)
    config = dataclasses.replace(config, data=sources, num_steps=steps or config.num_steps)
    Trainer(config, load_pictures(config.data, "train"), folder, start).run()


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Option(help="checkpoint.pt of a run.")],
    data: Annotated[
        list[str], typer.Option(help="The data of that run: the head is fitted on held-out keys.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the artifact.")],
    name: Annotated[str, typer.Option(help="Name of the model.")] = "tessera-small",
    version: Annotated[str, typer.Option(help="Version of the model.")] = "0.1.0",
    linear: Annotated[bool, typer.Option(help="Export the linear codec that training started from.")] = False,
    head_pictures: Annotated[
        int, typer.Option(help="Training pictures that the head is fitted on, too.")
    ] = 1000,
) -> None:
    """Fit and calibrate the halting head, export to ONNX, check parity, write the artifact."""
    from training.release import release

    digest = release(checkpoint, tuple(data), out, name, version, linear, head_pictures)
    typer.echo(f"{out}: fingerprint {digest[:8]}")


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
) -> None:
    """Export a refiner into an artifact, which can then decode with realism. Its streams stay valid."""
    from training.refiner_export import attach_refiner

    attach_refiner(refiner, model)
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
