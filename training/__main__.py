"""python -m training {train,export,calibrate,evaluate}: from pictures to an artifact."""

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
    ] = 1500,
) -> None:
    """Fit and calibrate the halting head, export to ONNX, check parity, write the artifact."""
    from training.release import release

    digest = release(checkpoint, tuple(data), out, name, version, linear, head_pictures)
    typer.echo(f"{out}: fingerprint {digest[:8]}")


@app.command()
def calibrate(
    data: Annotated[list[str], typer.Option(help="Your own pictures: shards or folders; repeat it.")],
    out: Annotated[Path, typer.Option(help="Folder of the calibrated artifact.")],
    model: Annotated[str, typer.Option(help="Shipped model or artifact folder to start from.")] = "default",
    refit: Annotated[
        bool, typer.Option("--refit", help="Fit a new head, too: worth it from about 1,000 pictures.")
    ] = False,
    limit: Annotated[int | None, typer.Option(help="At most this many pictures of each split.")] = None,
) -> None:
    """Make the promised quality hold on your own pictures; streams stay readable by the original model."""
    from training.calibrate import calibrate as calibrate_artifact

    facts = calibrate_artifact(model, tuple(data), out, refit=refit, limit=limit)
    typer.echo(f"{out}: " + ", ".join(f"{name} {value:g}" for name, value in facts.items()))


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
