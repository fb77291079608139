"""Several processes train as one: the same batches, the same weights, one checkpoint."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tokenizer.model import AdaptiveTokenizer
from training.checkpoint import config_from_dict, load_checkpoint, tables_from_dict
from training.config import TrainConfig
from training.distributed import UnevenBatch, World, join_world

ROOT = Path(__file__).parents[3]


def test_the_shares_of_all_processes_are_the_batch() -> None:
    rows = list(range(12))
    for size in (1, 2, 3, 4):
        shares = [rows[World(rank=rank, size=size).share(12)] for rank in range(size)]
        assert [row for share in shares for row in share] == rows


def test_a_batch_that_cannot_be_dealt_out_evenly_is_refused() -> None:
    with pytest.raises(UnevenBatch, match="batch_size 4 must be a multiple of the 3 processes"):
        World(size=3).share(4)


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with join_world() as world:
        assert (world.rank, world.size, world.is_first) == (0, 1, True)
        assert world.from_first(lambda: "made here") == "made here"
        assert torch.equal(world.sum(torch.ones(2)), torch.ones(2))


def train(folder: Path, pictures: Path, processes: int, *settings: str) -> dict[str, Any]:
    """A run of `debug_tiny` (4 pictures a step) by torchrun; returns its checkpoint."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    command = [*launcher, str(processes), "-m", "training", "train", "--recipe", "debug_tiny"]
    options = [part for setting in settings for part in ("--set", setting)]
    places = ["--data", str(pictures), "--folder", str(folder)]
    done = subprocess.run(
        [*command, *places, *options], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr
    return load_checkpoint(folder / "checkpoint.pt")


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return float(sum((a[name] - b[name]).double().square().sum() for name in a) ** 0.5)


def start_of(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    config: TrainConfig = config_from_dict(state["config"])
    torch.manual_seed(config.seed)
    return AdaptiveTokenizer(config.model, tables_from_dict(state["tables"])).state_dict()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [
        # fp32 sums in another order; measured 6e-7 of the way that the weights went in 20 steps.
        (("autocast=false",), 1e-5),
        # bf16 rounds each process's gradient (8 bits) before they are averaged; measured 0.03.
        ((), 0.1),
    ],
)
def test_two_processes_with_half_the_batch_each_end_with_the_weights_of_one(
    picture_folder: Path, tmp_path: Path, settings: tuple[str, ...], tolerance: float
) -> None:
    one = train(tmp_path / "one", picture_folder, 1, *settings)
    two = train(tmp_path / "two", picture_folder, 2, *settings)
    start = start_of(one)
    for kind in ("model", "average"):
        assert distance(two[kind], one[kind]) < tolerance * distance(one[kind], start)
    assert (two["step"], two["updates"], two.keys()) == (one["step"], one["updates"], one.keys())
    assert two["config"] == one["config"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_may_be_resumed_by_another_number_of_processes(picture_folder: Path, tmp_path: Path) -> None:
    """Stopped half-way with two, finished by one: the weights of an unbroken run."""
    settings = ("autocast=false", "optim.decay_share=0.5")
    unbroken = train(tmp_path / "unbroken", picture_folder, 1, *settings)
    # A whole run of ten steps that never leaves the plateau, as the first half of twenty does not.
    train(tmp_path / "moved", picture_folder, 2, *settings, "num_steps=10", "optim.decay_share=1e-9")
    moved = train(tmp_path / "moved", picture_folder, 1, *settings)
    assert moved["step"] == 20
    assert distance(moved["model"], unbroken["model"]) < 1e-5 * distance(
        unbroken["model"], start_of(unbroken)
    )
