"""Train a small GPT on tokens from `tessera batch encode --coding fixed`, and let it invent pictures.

    tessera batch encode photos/ --out tokens --coding fixed --max-tokens 32
    python examples/train_gpt.py tokens/data --minutes 5

Needs torch and matplotlib. Prints and draws the loss in bits per token on held-out pictures, beside what two
histograms know: of each bit by its place in the stream, and by its meaning. Then it invents pictures.

What a bit means hangs on its place, on the class that the first token names, and on the canvas. By place
alone bits look like coin tosses, 8 to a token; so the model is told what each one means, and what is known
around it (examples/bit_meaning.py). Signs, half of all bits, stay hard: they say where things are.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib
import numpy as np
import torch
from bit_meaning import FACT_SIZES, NEAR, VALUE_STEPS, Meanings, read
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from tokenizer import ImageTokenizer
from tokenizer.coding import Coding
from tokenizer.datasets import TokenTable
from tokenizer.sequence import TokenSequence
from tokenizer.spectral import SpectralLayout

HELD_OUT_SHARE = 0.1
REPORT_EVERY_S = 20.0
# Of the held-out pictures, while training; the last report takes all.
REPORTED_PICTURES = 300
LEARNING_RATE, WARM_UP_STEPS = 1.5e-3, 30
WIDTH, LAYERS, HEADS = 96, 3, 3
TILE_PX, TILES = 128, 8
# Streams whose meaning is worked out at a time: some hundred megabytes.
PART = 1000


@dataclass(frozen=True)
class Streams:
    """B streams. Legend: M bits after the first token."""

    classes: Tensor
    """int64[B], the first token."""
    bits: Tensor
    """int64[B, M]."""
    facts: Tensor
    """int64[B, M, 5], what each bit is about."""
    near: Tensor
    """float[B, M, NEAR], values around it, in standard deviations."""


class Gpt(nn.Module):
    """A decoder-only transformer (Radford et al. 2019) over bits. D = width."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = nn.Parameter(torch.zeros(256))
        self.facts = nn.ModuleList(nn.Embedding(size, WIDTH) for size in FACT_SIZES)
        self.told, self.class_of = nn.Embedding(2, WIDTH), nn.Embedding(256, WIDTH)
        for table in (*self.facts, self.told, self.class_of):
            nn.init.normal_(table.weight, std=0.2)
        self.near = nn.Sequential(nn.Linear(2 * NEAR, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, 0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 1))

    def forward(self, streams: Streams) -> Tensor:
        """Log odds that each bit is 1, float[B, M]; bit m is told bits before m only."""
        facts_BMD = sum(table(streams.facts[..., i]) for i, table in enumerate(self.facts))
        near_BMD = self.near(torch.cat([streams.near, streams.near.abs()], dim=-1))
        told_BMD = functional.pad(self.told(streams.bits)[:, :-1], (0, 0, 1, 0))
        x_BMD = facts_BMD + near_BMD + told_BMD + self.class_of(streams.classes)[:, None]
        causal_MM = nn.Transformer.generate_square_subsequent_mask(x_BMD.shape[1])
        return self.head(self.layers(x_BMD, mask=causal_MM, is_causal=True))[..., 0]


class Tokens:
    """All streams of a data set, small: int8 and int16 until a batch is asked for."""

    def __init__(self, sequences: Sequence[TokenSequence], layout: SpectralLayout, tokens: int) -> None:
        # Streams of one class and canvas after each other: they share their order of bits.
        self.sequences = sorted(sequences, key=lambda one: (one.tokens[0], one.canvas.width_px))
        ids = np.stack([one.token_ids[:tokens] for one in self.sequences])
        self.classes, self.bits = ids[:, 0], np.unpackbits(ids[:, 1:], axis=1)
        parts = [self._read(layout, slice(start, start + PART)) for start in range(0, len(ids), PART)]
        self.facts, self.near = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))

    def _read(self, layout: SpectralLayout, part: slice) -> tuple[np.ndarray, np.ndarray]:
        canvases = [one.canvas for one in self.sequences[part]]
        return read(Meanings(layout, self.classes[part], canvases, self.bits.shape[1]), self.bits[part])

    def __len__(self) -> int:
        return len(self.classes)

    def batch(self, rows: np.ndarray) -> Streams:
        """Some of them, ready for the model."""
        return as_streams(self.classes[rows], self.bits[rows], self.facts[rows], self.near[rows])


def as_streams(classes: np.ndarray, bits: np.ndarray, facts: np.ndarray, near: np.ndarray) -> Streams:
    """As the model takes them."""
    whole = (torch.from_numpy(array.astype(np.int64)) for array in (classes, bits, facts))
    return Streams(*whole, torch.from_numpy(near).float() / VALUE_STEPS)


def bits_per_token(model: Gpt, streams: Streams) -> Tensor:
    """Mean over all tokens of cross-entropy in bits, the first token included."""
    scores = model(streams)
    of_bits = functional.binary_cross_entropy_with_logits(scores, streams.bits.float(), reduction="sum")
    of_class = functional.cross_entropy(
        model.classes.expand(len(streams.classes), -1), streams.classes, reduction="sum"
    )
    tokens = len(streams.classes) * (1 + streams.bits.shape[1] // 8)
    return (of_bits + of_class) / (math.log(2) * tokens)


@torch.no_grad()
def held_out_bits(model: Gpt, tokens: Tokens, limit: int | None = None) -> float:
    """Bits per token of pictures that were not learnt from; of some evenly spread ones, with a limit."""
    rows = np.arange(0, len(tokens), max(1, len(tokens) // (limit or len(tokens))))
    parts = np.array_split(rows, max(1, len(rows) // 50))
    return sum(float(bits_per_token(model, tokens.batch(part))) * len(part) for part in parts) / len(rows)


def histogram_bits(known: Tokens, held_out: Tokens, context: Callable[[Tokens], np.ndarray]) -> float:
    """Bits per token of a model that has a histogram of each bit's context, and one of the first token."""
    contexts, bits = context(known).reshape(-1), known.bits.reshape(-1)
    counts = np.ones((int(contexts.max()) + 2, 2))
    np.add.at(counts, (contexts, bits), 1)
    asked = np.minimum(context(held_out).reshape(-1), len(counts) - 1)
    odds = (counts / counts.sum(1, keepdims=True))[asked, held_out.bits.reshape(-1)]
    of_class = np.bincount(known.classes, minlength=256) + 1.0
    class_odds = (of_class / of_class.sum())[held_out.classes]
    tokens = len(held_out) * (1 + held_out.bits.shape[1] // 8)
    return float(-(np.log2(odds).sum() + np.log2(class_odds).sum()) / tokens)


def by_place(tokens: Tokens) -> np.ndarray:
    """Context: where in the stream a bit is."""
    return np.broadcast_to(np.arange(tokens.bits.shape[1]), tokens.bits.shape)


def by_meaning(tokens: Tokens) -> np.ndarray:
    """Context: colour plane, octave of the frequency, and the bits so far of the same coefficient."""
    colour, down, across, _, cell = np.moveaxis(tokens.facts.astype(np.int64), -1, 0)
    octave = np.ceil(np.log2(np.maximum(down, across) + 1)).astype(np.int64)
    return (cell * 3 + colour) * 8 + octave


def train(
    model: Gpt, known: Tokens, held_out: Tokens, minutes: float, batch: int
) -> list[tuple[float, float]]:
    """AdamW with a cosine over time. Prints and returns (seconds, held-out bits per token) as they fall."""
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05, betas=(0.9, 0.98))
    draw, curve, step, started_s = np.random.default_rng(0), [], 0, time.monotonic()
    while (elapsed_s := time.monotonic() - started_s) < 60 * minutes:
        if elapsed_s >= REPORT_EVERY_S * len(curve):
            curve.append((elapsed_s, held_out_bits(model, held_out, REPORTED_PICTURES)))
            print(
                f"{elapsed_s:5.0f} s  step {step:5d}  held out {curve[-1][1]:.3f} bits per token", flush=True
            )
        share = elapsed_s / (60 * minutes)
        for group in optimizer.param_groups:
            warm = min(1.0, (step + 1) / WARM_UP_STEPS)
            group["lr"] = LEARNING_RATE * warm * (0.05 + 0.95 * (1 + math.cos(math.pi * share)) / 2)
        loss = bits_per_token(model, known.batch(draw.integers(0, len(known), batch)))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
    curve.append((60 * minutes, held_out_bits(model, held_out)))
    print(f"{60 * minutes:5.0f} s  step {step:5d}  held out {curve[-1][1]:.3f} bits per token, all of them")
    return curve


@torch.no_grad()
def continued(model: Gpt, like: Tokens, layout: SpectralLayout, known_tokens: int) -> list[TokenSequence]:
    """The first streams of `like`, kept for some tokens and drawn bit by bit from there.

    With none kept, the class is drawn, too, and of the pictures only their canvas stays.
    """
    sequences, bits = like.sequences, like.bits.copy()
    classes = torch.multinomial(model.classes.softmax(0), len(like), replacement=True).numpy()
    classes = like.classes if known_tokens else classes.astype(np.uint8)
    meanings = Meanings(layout, classes, [one.canvas for one in sequences], bits.shape[1])
    facts, near = np.zeros_like(like.facts), np.zeros_like(like.near)
    for asked in meanings.walk():
        now = slice(0, asked.place + 1)
        facts[:, asked.place], near[:, asked.place] = asked.facts, asked.near
        if asked.place >= 8 * (known_tokens - 1):
            scores = model(as_streams(classes, bits[:, now], facts[:, now], near[:, now]))[:, -1]
            bits[:, asked.place] = torch.bernoulli(scores.sigmoid()).numpy()
        meanings.tell(asked, bits[:, asked.place])
    ids = np.concatenate([classes[:, None], np.packbits(bits, axis=1)], axis=1)
    return [replace(one, tokens=row.tobytes()) for one, row in zip(sequences, ids, strict=True)]


def draw_curve(path: Path, curve: Sequence[tuple[float, float]], lines: Mapping[str, float]) -> None:
    """The held-out loss over time, and what the histograms know."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    axes.plot([seconds for seconds, _ in curve[1:]], [bits for _, bits in curve[1:]], "o-", label="this GPT")
    for (name, bits), style in zip(lines.items(), ("--", ":"), strict=True):
        axes.axhline(bits, linestyle=style, color="grey", label=name)
    axes.set(xlabel="seconds of training", ylabel="held-out bits per token")
    axes.legend()
    figure.savefig(path, dpi=120)


def draw_sheet(path: Path, rows: Sequence[Sequence[TokenSequence]], tokenizer: ImageTokenizer) -> None:
    """A row of tiles for each."""
    tiles = [
        [np.asarray(Image.fromarray(p).resize((TILE_PX, TILE_PX))) for p in tokenizer.decode(row)]
        for row in rows
    ]
    Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in tiles])).save(path)


def main() -> None:
    """Train, report, draw."""
    arguments = _parse()
    torch.manual_seed(0)
    tokenizer = ImageTokenizer.from_pretrained(arguments.model)
    layout, count = tokenizer.codec.spectral, arguments.tokens
    sequences = long_enough(TokenTable(arguments.data), count)
    np.random.default_rng(0).shuffle(sequences)
    held_out_count = max(TILES, int(HELD_OUT_SHARE * len(sequences)))
    held_out = Tokens(sequences[:held_out_count], layout, count)
    known = Tokens(sequences[held_out_count:], layout, count)
    print(f"{len(known)} pictures to learn from, {len(held_out)} held out, {count} tokens each")
    contexts = {"each place's histogram": by_place, "each meaning's histogram": by_meaning}
    lines = {name: histogram_bits(known, held_out, context) for name, context in contexts.items()}
    for name, bits in lines.items():
        print(f"{name}: {bits:.3f} bits per token")
    model = Gpt()
    curve = train(model, known, held_out, arguments.minutes, arguments.batch)
    draw_curve(arguments.curve, curve, lines)
    few = Tokens(held_out.sequences[:: len(held_out) // TILES][:TILES], layout, count)
    kept = max(1, count // 4)
    originals = [one.prefix(count) for one in few.sequences]
    rows = [originals, [one.prefix(kept) for one in originals]]
    rows += [continued(model, few, layout, kept), continued(model, few, layout, 0)]
    draw_sheet(arguments.sheet, rows, tokenizer)
    print(f"{arguments.curve}: the loss; {arguments.sheet}: held out, {kept} tokens, continued, invented")


def long_enough(table: TokenTable, tokens: int) -> list[TokenSequence]:
    """Streams of a data set with as many tokens. Ends the program where there is nothing to learn from."""
    found = [table[row].sequence for row in range(len(table))]
    if any(one.coding is not Coding.FIXED for one in found):
        raise SystemExit("some of these tokens are range-coded: a model reads those of --coding fixed")
    found = [one for one in found if one.length >= tokens]
    if len(found) < 10 * TILES:
        raise SystemExit(f"only {len(found)} pictures have {tokens} tokens; give fewer with --tokens")
    return found


def _parse() -> argparse.Namespace:
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("data", type=Path, help="folder of Parquet files")
    command.add_argument("--tokens", type=int, default=32, help="of each picture; the first ones")
    command.add_argument("--minutes", type=float, default=5.0)
    command.add_argument("--batch", type=int, default=32)
    command.add_argument("--model", default="default", help="the one that made the tokens")
    command.add_argument("--curve", type=Path, default=Path("gpt_loss.png"))
    command.add_argument("--sheet", type=Path, default=Path("gpt_samples.png"))
    return command.parse_args()


if __name__ == "__main__":
    main()
