"""RegisterTrainer: the loop of `Trainer` for the register layout. Only what a step minimises differs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tokenizer.canvas import Size
from tokenizer.model.register_tokenizer import RegisterTokenizer
from tokenizer.preprocess import to_model_input
from training.data import centre_crop
from training.losses import squared_error
from training.precision import autocast
from training.register_validation import RegisterHeldOut
from training.trainer import Trainer

# Pictures whose mean colour the model starts at.
COLOUR_PICTURES = 1024
# Pictures that all levels of every code are in use for, before training.
SPREAD_PICTURES = 128
# Error below which a picture counts less and less: 38 dB. Flat pictures would else rule the loss.
FLOOR_MSE = 10.0


class RegisterTrainer(Trainer):
    """Encodes once and decodes one prefix of the registers, and if configured all of them."""

    held_out_kind = RegisterHeldOut

    def losses(self, image: Tensor, canvas: Size) -> dict[str, Tensor]:
        """Log distortion of one random prefix and, if configured, of the full length."""
        model, config = self.model, self.config
        positions = model.positions(canvas, self.device)
        with autocast(self.device, config.autocast):
            codes, _ = model.analysis(image, positions)
        lengths = {"prefix": self._lengths(config.model.max_tokens)}
        if config.full_length:
            lengths["full"] = torch.full_like(lengths["prefix"], config.model.max_tokens)
        plain_mse = squared_error(model.synthesis.mean, image)
        losses = {}
        for name, length in lengths.items():
            with autocast(self.device, config.autocast):
                decoded = model.synthesis.decode(codes, model.kept_registers(length), positions)
            mse = squared_error(decoded, image)
            # The meter's ratio is to what no token at all would show: the mean colour.
            self.meter.add(length, mse, plain_mse)
            losses[name] = log_distortion(mse)
        return losses

    def _prepare(self, before: dict[str, Any] | None) -> None:
        """Nothing is kept apart: what the model starts from is among its weights."""

    def _prepared(self) -> dict[str, Any]:
        return {}

    def _build_model(self) -> RegisterTokenizer:
        some = self.pictures.pictures[:COLOUR_PICTURES]
        mean_rgb = np.mean([picture.mean((0, 1)) for picture in some], axis=0)
        model = RegisterTokenizer(self.config.model, torch.from_numpy(mean_rgb).float())
        canvas = self.config.canvases[0]
        crops = np.stack([centre_crop(picture, canvas) for picture in some[:SPREAD_PICTURES]])
        image = torch.from_numpy(to_model_input(list(crops)))
        model.analysis.spread_codes(image, model.positions(canvas, image.device))
        return model


def log_distortion(mse_B: Tensor) -> Tensor:
    """Mean log of the error: PSNR itself, so that every picture and length counts the same.

    What `relative_distortion` gets from the linear codec's error, which this layout does not have.
    """
    return torch.log(mse_B + FLOOR_MSE).mean()
