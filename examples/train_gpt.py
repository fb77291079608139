"""Train a small GPT on tokens from `tessera batch encode --coding fixed`, and let it invent pictures.

    tessera batch encode photos/ --out tokens --coding fixed --max-tokens 64
    python examples/train_gpt.py tokens/data --minutes 5

Needs torch. Prints the loss in bits per token on held-out pictures, beside what knowing only each position's
own distribution gives (a token has one meaning by its place, so that alone is worth something). At the end it
samples pictures, and continues the first bytes of held-out ones, onto one sheet.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from tokenizer import ImageTokenizer
from tokenizer.datasets import BEGIN, VOCABULARY_SIZE, TokenRow, TokenTable, pad
from tokenizer.sequence import TokenSequence

HELD_OUT_SHARE = 0.1
REPORT_EVERY_S = 20.0
TILE_PX = 128


@dataclass(frozen=True)
class GptConfig:
    """A model that learns something in minutes on two processors."""

    context_tokens: int
    width: int = 192
    layers: int = 4
    heads: int = 6
    dropout: float = 0.1


class Gpt(nn.Module):
    """A decoder-only transformer (Radford et al. 2019) with a bias for each position."""

    def __init__(self, config: GptConfig) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY_SIZE, config.width)
        self.places = nn.Embedding(config.context_tokens, config.width)
        layer = nn.TransformerEncoderLayer(
            config.width,
            config.heads,
            4 * config.width,
            config.dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.layers = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(config.width)
        # What a byte means depends on its place: each place has a bias of its own.
        self.head = nn.Linear(config.width, VOCABULARY_SIZE)
        self.bias = nn.Embedding(config.context_tokens, VOCABULARY_SIZE)
        nn.init.zeros_(self.bias.weight)

    def forward(self, ids_BL: Tensor) -> Tensor:
        """Scores of the next token, float[B, L, VOCABULARY_SIZE]."""
        places_L = torch.arange(ids_BL.shape[1])
        causal_LL = nn.Transformer.generate_square_subsequent_mask(ids_BL.shape[1])
        x_BLD = self.tokens(ids_BL) + self.places(places_L)
        x_BLD = self.layers(x_BLD, mask=causal_LL, is_causal=True)
        return self.head(self.norm(x_BLD)) + self.bias(places_L)


def main() -> None:
    """Train, report, sample."""
    arguments = _parse()
    torch.manual_seed(0)
    table = TokenTable(arguments.data)
    if table[0].sequence.coding.value != "fixed":
        raise SystemExit("these tokens are range-coded: a model reads those of --coding fixed")
    ids_NL = as_ids(table, arguments.tokens)
    held_out = max(1, int(HELD_OUT_SHARE * len(ids_NL)))
    train_NL, test_NL = ids_NL[held_out:], ids_NL[:held_out]
    print(f"{len(train_NL)} pictures to learn from, {held_out} held out, {arguments.tokens} tokens each")
    print(f"each position by itself: {position_bits(train_NL, test_NL):.3f} bits per token")
    model = Gpt(GptConfig(arguments.tokens))
    train(model, train_NL, test_NL, 60 * arguments.minutes, arguments.batch)
    sheet = sample_sheet(model, table, test_NL, ImageTokenizer.from_pretrained(arguments.model))
    Image.fromarray(sheet).save(arguments.sheet)
    print(f"{arguments.sheet}: held-out pictures, the same continued from 16 tokens, invented ones")


def as_ids(table: TokenTable, tokens: int) -> Tensor:
    """BEGIN and the first tokens of every picture that has as many, int64[N, tokens + 1]."""
    long_enough = [row.token_ids for row in _rows(table) if row.sequence.length >= tokens]
    if len(long_enough) < 20:
        raise SystemExit(f"only {len(long_enough)} pictures have {tokens} tokens; give fewer with --tokens")
    ids, _ = pad(long_enough, max_tokens=tokens, begin=BEGIN, end=None)
    return torch.from_numpy(ids)


def train(model: Gpt, train_NL: Tensor, test_NL: Tensor, seconds: float, batch: int) -> None:
    """AdamW with a cosine over time; prints the held-out loss as it falls."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    started_s, next_report_s, step = time.monotonic(), 0.0, 0
    while (elapsed_s := time.monotonic() - started_s) < seconds:
        if elapsed_s >= next_report_s:
            print(
                f"{elapsed_s:5.0f} s  step {step:5d}  held out {bits(model, test_NL):.3f} bits per token",
                flush=True,
            )
            next_report_s += REPORT_EVERY_S
        for group in optimizer.param_groups:
            group["lr"] = (
                1e-3
                * min(1, (step + 1) / 50)
                * (0.05 + 0.95 * (1 + math.cos(math.pi * elapsed_s / seconds)) / 2)
            )
        chosen = torch.randint(len(train_NL), (batch,))
        loss = loss_of(model.train(), train_NL[chosen])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
    print(f"{seconds:5.0f} s  step {step:5d}  held out {bits(model, test_NL):.3f} bits per token")


def loss_of(model: Gpt, ids_BL: Tensor) -> Tensor:
    """Cross-entropy of each token given those before it, in nats."""
    scores = model(ids_BL[:, :-1])
    return functional.cross_entropy(scores.flatten(0, 1), ids_BL[:, 1:].flatten())


@torch.no_grad()
def bits(model: Gpt, ids_NL: Tensor) -> float:
    """Mean bits per token."""
    losses = [float(loss_of(model.eval(), part)) * len(part) for part in ids_NL.split(64)]
    return sum(losses) / len(ids_NL) / math.log(2)


def position_bits(train_NL: Tensor, test_NL: Tensor) -> float:
    """Bits per token of a model that knows each position's histogram (add-one) and nothing else."""
    total = 0.0
    for place in range(1, train_NL.shape[1]):
        counts = torch.bincount(train_NL[:, place], minlength=256).double() + 1
        total -= float(torch.log2(counts / counts.sum())[test_NL[:, place]].mean())
    return total / (train_NL.shape[1] - 1)


@torch.no_grad()
def continue_from(model: Gpt, ids_BL: Tensor, tokens: int) -> Tensor:
    """Draw token after token, nucleus 0.9 (Holtzman et al. 2020), up to this many after BEGIN."""
    model.eval()
    while ids_BL.shape[1] <= tokens:
        odds = model(ids_BL)[:, -1, :256].softmax(-1)
        ordered, order = odds.sort(-1, descending=True)
        ordered[ordered.cumsum(-1) - ordered > 0.9] = 0
        drawn = order.gather(-1, torch.multinomial(ordered, 1))
        ids_BL = torch.cat([ids_BL, drawn], dim=1)
    return ids_BL


def sample_sheet(model: Gpt, table: TokenTable, test_NL: Tensor, tokenizer: ImageTokenizer) -> np.ndarray:
    """Three rows of tiles: held out, continued, invented."""
    known_BL, tokens = test_NL[:8], test_NL.shape[1] - 1
    continued = continue_from(model, known_BL[:, :17], tokens)
    invented = continue_from(model, known_BL[:, :1], tokens)
    like = table[0].sequence
    return np.concatenate([_tiles(ids, like, tokenizer) for ids in (known_BL, continued, invented)])


def _tiles(ids_BL: Tensor, like: TokenSequence, tokenizer: ImageTokenizer) -> np.ndarray:
    streams = [
        TokenSequence(bytes(ids[1:].tolist()), like.source, like.fingerprint, like.canvas, coding=like.coding)
        for ids in ids_BL
    ]
    pictures = [Image.fromarray(pixels).resize((TILE_PX, TILE_PX)) for pixels in tokenizer.decode(streams)]
    return np.concatenate([np.asarray(picture) for picture in pictures], axis=1)


def _rows(table: TokenTable) -> Iterator[TokenRow]:
    return (table[i] for i in range(len(table)))


def _parse() -> argparse.Namespace:
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("data", type=Path, help="folder of Parquet files")
    command.add_argument("--tokens", type=int, default=64, help="of each picture")
    command.add_argument("--minutes", type=float, default=5.0)
    command.add_argument("--batch", type=int, default=64)
    command.add_argument("--model", default="default", help="the one that made the tokens")
    command.add_argument("--sheet", type=Path, default=Path("gpt_samples.png"))
    return command.parse_args()


if __name__ == "__main__":
    main()
