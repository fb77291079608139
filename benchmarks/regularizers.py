"""What the regularizers of training do: short runs of one seed that differ in one weight.

    python -m benchmarks.regularizers --penalty spectral_norm --data SHARD [--steps 300] [--threads 1]

Prints and writes `benchmarks/results/regularizers-PENALTY.{md,json}`. All runs start from one linear codec
fitted to the training split and see the same pictures, parts and prefix lengths; the spectral norm is tried
on `small_128`, the coding rate on that with a small encoder and a smaller decoder network. Compared at equal
steps, not time.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.command import write_results
from benchmarks.regularizers_report import Run, page
from benchmarks.report import RESULTS, environment
from benchmarks.robustness import Robustness
from tokenizer.model import ModelConfig
from training.config import ContextConfig, DataConfig, OptimConfig, TrainConfig
from training.data import PictureSet, load_pictures
from training.recipes import small_128
from training.regularizers import CODING_RATE, SPECTRAL_NORM, RegularizerConfig
from training.trainer import Trainer

WEIGHTS = {SPECTRAL_NORM: (0.0, 1e-3, 1e-2), CODING_RATE: (0.0, 0.1, 1.0)}
# Low rates want few steps of warm-up, or a short run is nothing else.
WARMUP_STEPS = 30


def configs(penalty: str, data: DataConfig, steps: int) -> Iterator[TrainConfig]:
    """One run per weight of a penalty."""
    plain = replace(
        small_128(),
        data=data,
        optim=OptimConfig(warmup_steps=WARMUP_STEPS),
        coded_share=0.0,
        num_steps=steps,
        checkpoint_every=steps,
        validate_every=0,
        sheet_every=0,
        # The range coding is not used here; its model is fitted all the same, so as little as can be.
        contexts=ContextConfig(pictures=16, rounds=1, questions=2000, steps=50),
    )
    with_encoder = ModelConfig((32, 64, 128), (1, 1, 1), encoder_widths=(16, 32), encoder_depths=(1, 1))
    for weight in WEIGHTS[penalty]:
        if penalty == CODING_RATE:
            rate = RegularizerConfig(coding_rate_weight=weight)
            yield replace(plain, model=with_encoder, regularizers=rate)
        else:
            yield replace(plain, regularizers=RegularizerConfig(spectral_norm_weight=weight))


def measure(config: TrainConfig, pictures: PictureSet, held_out: PictureSet, start: Path) -> Run:
    """Train, then look at what came out."""
    with TemporaryDirectory() as folder:
        trainer = Trainer(config, pictures, Path(folder), start=start)
        trainer.run()
    trained = Robustness(trainer.average.module, held_out, config.canvases[0])
    weights = config.regularizers
    return Run(
        weight=weights.coding_rate_weight or weights.spectral_norm_weight,
        psnr_db=trained.psnr_db(),
        more_bytes_cost_share=trained.more_bytes_cost_share(),
        noise_gain=trained.noise_gain(),
        int8_loss_db=trained.int8_loss_db(),
        worst_norm=trained.worst_norm(),
        coding_rate=trained.coding_rate(),
        effective_rank=trained.effective_rank(),
    )


def main() -> None:
    """Measure, print, write."""
    arguments = _parse()
    torch.set_num_threads(arguments.threads)
    data = DataConfig(sources=tuple(arguments.data), limit=arguments.limit)
    pictures = load_pictures(data, "train")
    held_out = load_pictures(replace(data, limit=arguments.held_out), "validation")
    runs = list(configs(arguments.penalty, data, arguments.steps))
    with TemporaryDirectory() as folder:
        linear = Trainer(replace(runs[0], model=ModelConfig((16,), (1,))), pictures, Path(folder))
        linear.save()
        measured = []
        for config in runs:
            measured.append(measure(config, pictures, held_out, linear.path))
            print(measured[-1], flush=True)
    text = page(arguments.penalty, measured, arguments.steps, len(pictures), len(held_out))
    facts = {"steps": arguments.steps, "runs": [asdict(run) for run in measured]}
    stem = arguments.results / f"regularizers-{arguments.penalty}"
    write_results(stem, text, {"environment": environment(), **facts})


def _parse() -> argparse.Namespace:
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--penalty", choices=WEIGHTS, required=True)
    command.add_argument("--data", nargs="+", required=True, help="shards or folders of pictures")
    command.add_argument("--steps", type=int, default=300)
    command.add_argument("--limit", type=int, default=1500, help="training pictures")
    command.add_argument("--held-out", type=int, default=32, help="pictures that are measured")
    command.add_argument("--threads", type=int, default=1)
    command.add_argument("--results", type=Path, default=RESULTS)
    return command.parse_args()


if __name__ == "__main__":
    main()
