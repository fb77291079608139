"""Trainer: the loop and nothing but the loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tokenizer.canvas import Size
from tokenizer.coding import Coding
from tokenizer.contexts import ContextTables
from tokenizer.model import AdaptiveTokenizer
from tokenizer.model.nested_dropout import sample_lengths
from tokenizer.spectral import SpectralLayout, SpectralTables
from training.batches import batches_of
from training.board import Board
from training.checkpoint import (
    changed_settings,
    config_to_dict,
    contexts_from_dict,
    load_checkpoint,
    save_checkpoint,
    tables_from_dict,
    tables_to_dict,
)
from training.coded_batches import CodedBatches, draw_coding
from training.config import TrainConfig
from training.context_model import fit_contexts
from training.data import PictureSet, centre_crop
from training.distributed import World
from training.draws import draw_canvas, draw_windows
from training.linear_codec import coefficients_of, fit_linear_codec
from training.losses import relative_distortion, squared_error
from training.meters import RatioMeter, Speed
from training.optim import WeightAverage, build_optimizer, rate_at, set_rate
from training.precision import autocast
from training.regularizers import norm_of_weights, objective, rate_of_coefficients
from training.start import fitting, load_start
from training.validation import SHEET_TITLE, HeldOut


class Trainer:
    """One run in a folder: `Trainer(config, pictures, folder).run()` starts or resumes it.

    `start` is a checkpoint of another run, or a model, whose tables and weights this one begins with. Every
    draw is a pure function of seed and step, so a checkpoint holds no position in the data: the step is it.
    `RegisterTrainer` is this loop for the other token layout.
    """

    held_out_kind = HeldOut

    def __init__(
        self,
        config: TrainConfig,
        pictures: PictureSet,
        folder: Path,
        start: Path | str | None = None,
        held_out: PictureSet | None = None,
        world: World | None = None,
    ) -> None:
        self.config, self.pictures, self.folder = config, pictures, folder
        self.world = world or World(device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        self.device, self.share = self.world.device, self.world.share(config.batch_size)
        self.batches, self.sizes = batches_of(pictures, self.device, config.device_cache), pictures.sizes
        resumed = load_checkpoint(self.path) if self.path.exists() else None
        begun = load_start(start, not config.refit_tables) if start and not resumed else None
        before = resumed or begun
        self._prepare(None if begun and config.refit_tables else before)
        torch.manual_seed(config.seed)
        self.model = self._build_model().to(self.device)
        if self.device.type == "cpu":
            self.model.to(memory_format=torch.channels_last)
        if begun:
            self._start_from(begun["average"])
        self.average = WeightAverage(self.model, config.optim.ema_decay)
        self.optimizer = build_optimizer(self.model, config.optim)
        self.step, self.skipped_steps = 0, 0
        self.meter, self.speed = RatioMeter(self.device), Speed()
        self.held_out = self._held_out(held_out)
        if resumed:
            self._resume(resumed)

    @property
    def path(self) -> Path:
        """Where this run's checkpoint lies."""
        return self.folder / "checkpoint.pt"

    def run(self) -> None:
        """Train until `num_steps`, with a progress bar, TensorBoard, validation and checkpoints."""
        config = self.config
        with Board(self.folder, config, self.step, self.world.is_first) as board:
            while self.step < config.num_steps:
                with self.speed.timing(config.batch_size):
                    losses = self.train_step()
                self.step += 1
                if self._due(config.log_every):
                    self._log(board, losses)
                if self._due(config.validate_every):
                    self._validate(board)
                if self._due(config.sheet_every):
                    self._draw_sheet(board)
                if self._due(config.checkpoint_every) or self.step == config.num_steps:
                    self.save()

    def train_step(self) -> dict[str, float]:
        """One optimizer step on one batch; returns this process's relative distortions and penalties."""
        config, canvas = self.config, draw_canvas(self.config, self.step)
        # Whatever layer draws from torch's own generator: the same after a resume, other on every process.
        torch.manual_seed((config.seed * 1_000_003 + self.step) * self.world.size + self.world.rank)
        set_rate(self.optimizer, rate_at(self.step, config.num_steps, config.optim))
        self.optimizer.zero_grad(set_to_none=True)
        if draw_coding(config, self.step) is Coding.RANGE:
            losses = self.coded_losses()
        else:
            windows = draw_windows(config, self.sizes, canvas, self.step)
            losses = self.losses(self.batches.cut(windows.part(self.share), canvas), canvas)
        losses |= norm_of_weights(self.model, config.regularizers)
        total = objective(losses, config.regularizers)
        total.backward()  # type: ignore[no-untyped-call]
        self.world.average_gradients(self.model.parameters())
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.optim.clip_norm)
        if torch.isfinite(norm):
            self.optimizer.step()
            self.average.update(self.model)
        else:
            self.skipped_steps += 1
        return {**{name: float(loss.detach()) for name, loss in losses.items()}, "gradient_norm": float(norm)}

    def losses(self, image: Tensor, canvas: Size) -> dict[str, Tensor]:
        """Relative distortion of one random prefix and, if configured, of the full length; codes' rate."""
        model = self.model
        vertical, horizontal = model.basis(canvas, self.device)
        quantizer = model.quantizer(canvas, self.device)
        with autocast(self.device, self.config.autocast):
            coefficients, reference, _ = model.analysis(image, vertical, horizontal)
        classes = self._classes(coefficients.detach(), canvas)
        lengths = {"prefix": self._lengths(quantizer.max_tokens)}
        if self.config.full_length:
            lengths["full"] = torch.full_like(lengths["prefix"], quantizer.max_tokens)
        losses = {}
        for name, length in lengths.items():
            means = quantizer(coefficients.flatten(1), classes, length).unflatten(1, coefficients.shape[1:])
            linear = model.synthesis.linear(means, vertical, horizontal)
            with autocast(self.device, self.config.autocast):
                decoded = model.synthesis.refine(
                    linear, length.float(), quantizer.expected_mse(classes, length)
                )
            with torch.no_grad():
                if model.analysis.network is not None:  # the bar is what the codec without networks does
                    plain = quantizer(reference.flatten(1), classes, length).unflatten(1, reference.shape[1:])
                    linear = model.synthesis.linear(plain, vertical, horizontal)
                linear_mse = squared_error(linear + model.synthesis.mean, image)
            mse = squared_error(decoded, image)
            self.meter.add(length, mse, linear_mse)
            losses[name] = relative_distortion(mse, linear_mse)
        flat, sigmas = coefficients.flatten(1), quantizer.sigmas
        return losses | rate_of_coefficients(flat, sigmas, classes, self.config.regularizers)

    def coded_losses(self) -> dict[str, Tensor]:
        """Relative distortion of one random prefix of the range coding, always on the first canvas."""
        assert self.coded is not None  # no step draws this coding otherwise
        model, canvas = self.model, self.config.canvases[0]
        length = self._lengths(self.layout.max_tokens(canvas))
        batch = self.coded.draw(self.step, length, self.share, self.device)
        linear = model.synthesis.linear(batch.means, *model.basis(canvas, self.device))
        mirrored = batch.flip[:, None, None, None]
        linear, image = (torch.where(mirrored, x.flip(3), x) for x in (linear, batch.image))
        with autocast(self.device, self.config.autocast):
            decoded = model.synthesis.refine(linear, length.float(), batch.expected_mse)
        linear_mse = squared_error(linear + model.synthesis.mean, image)
        mse = squared_error(decoded, image)
        self.meter.add(length, mse, linear_mse)
        return {"coded": relative_distortion(mse, linear_mse)}

    def _prepare(self, before: dict[str, Any] | None) -> None:
        """What the layout fits before its networks train, or finds in a checkpoint."""
        tables = tables_from_dict(before["tables"]) if before else self.world.from_first(self._fit_tables)
        self.layout = SpectralLayout(tables)
        self.contexts = contexts_from_dict(before["contexts"]) if before else self._fit_contexts()
        self.coded = self._code()

    def _build_model(self) -> AdaptiveTokenizer:
        return AdaptiveTokenizer(self.config.model, self.layout.tables)

    def _prepared(self) -> dict[str, Any]:
        """What `_prepare` made, for a checkpoint."""
        return {"tables": tables_to_dict(self.layout.tables), "contexts": tables_to_dict(self.contexts)}

    def _classes(self, coefficients: Tensor, canvas: Size) -> Tensor:
        chosen = [self.layout.choose_class(c, canvas) for c in coefficients.float().cpu().numpy()]
        return torch.tensor(chosen, device=self.device)

    def _lengths(self, max_tokens: int) -> Tensor:
        """This process's rows of the whole batch's prefix lengths."""
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.step)
        config = self.config
        shortest = min(config.min_tokens, max_tokens)
        lengths = sample_lengths(config.batch_size, max_tokens, shortest, generator, config.uniform_share)
        return lengths[self.share].to(self.device)

    def _fit_tables(self) -> SpectralTables:
        canvas = self.config.canvases[0]
        batches = self.pictures.centre_batches
        return fit_linear_codec(lambda: batches(128, canvas), self.config.linear, canvas)

    def _fit_contexts(self) -> ContextTables:
        """On the first process, for all."""
        canvas, config = self.config.canvases[0], self.config.contexts

        def fit() -> ContextTables:
            crops = (centre_crop(p, canvas) for p in self.pictures.pictures[: config.pictures])
            coefficients = [coefficients_of(crop, self.layout.tables, canvas) for crop in crops]
            return fit_contexts(self.layout, coefficients, canvas, config)

        return self.world.from_first(fit)

    def _code(self) -> CodedBatches | None:
        """The coded crops: made by the first process, read by all."""
        if not self.config.coded_share:
            return None

        def make() -> CodedBatches:
            path = self.folder / "coded.npz"
            canvas = self.config.canvases[0]
            return CodedBatches(self.config, canvas, self.pictures, self.layout.tables, self.contexts, path)

        coded = make() if self.world.is_first else None
        self.world.from_first(lambda: None)  # the others wait until the file is there
        return coded or make()

    def _start_from(self, weights: dict[str, Tensor]) -> None:
        """Take every weight that fits; networks that are new keep their zero start."""
        fits = fitting(weights, self.model, trained_only=self.config.refit_tables)
        self.model.load_state_dict(fits, strict=False)

    def save(self) -> None:
        """Write all that resuming and export need; the same from any number of processes."""
        if not self.world.is_first:
            return
        save_checkpoint(
            self.path,
            {
                "config": config_to_dict(self.config),
                **self._prepared(),
                "model": self.model.state_dict(),
                "average": self.average.module.state_dict(),
                "updates": self.average.updates,
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
            },
        )

    def _resume(self, state: dict[str, Any]) -> None:
        changes = changed_settings(state["config"], config_to_dict(self.config))
        if changes and self.world.is_first:
            print(f"resuming at step {state['step']} with other settings: {', '.join(changes)}")
        self.model.load_state_dict(state["model"])
        self.average.module.load_state_dict(state["average"])
        self.average.updates = state["updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _log(self, board: Board, losses: dict[str, float]) -> None:
        names = list(losses)
        means = self.world.sum(torch.tensor([losses[name] for name in names], device=self.device))
        shown = dict(zip(names, (means / self.world.size).tolist(), strict=True))
        facts = {
            "rate": self.optimizer.param_groups[0]["lr"],
            "pictures_per_s": self.speed.read(),
            "skipped_steps": float(self.skipped_steps),
        }
        board.scalars(self.step, "train", {**shown, **facts})
        board.scalars(self.step, "ratio_db", self.meter.read(self.world))
        board.advance(self.step, {**shown, "pictures/s": facts["pictures_per_s"]})

    def _held_out(self, pictures: PictureSet | None) -> HeldOut | None:
        """The first process validates alone: its pictures are few, and the others wait."""
        if pictures is None or not self.world.is_first:
            return None
        crops = pictures.centre_batches(len(pictures), self.config.canvases[0])
        return self.held_out_kind(np.concatenate(list(crops)), self.device)

    def _validate(self, board: Board) -> None:
        if self.held_out is None:
            return
        result = self.held_out.validate(self.average.module)
        board.say(f"{self.step} {result}")
        board.scalars(self.step, "validation_psnr_db", {str(n): db for n, db in result.psnr_db.items()})
        board.scalars(self.step, "validation_gain_db", {str(n): db for n, db in result.gain_db.items()})
        board.scalars(self.step, "level_usage", {f"plane_{p}": u for p, u in result.level_usage.items()})

    def _draw_sheet(self, board: Board) -> None:
        if self.held_out is not None:
            board.picture(self.step, SHEET_TITLE, self.held_out.sheet(self.average.module))
