"""Entropy of bits from counts, corrected for few samples, and the cost of coding with counted tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class BitCounts:
    """How often a bit was 0 and 1 in each context."""

    zeros: Counts
    ones: Counts

    @classmethod
    def of(cls, bits: NDArray[np.uint8], contexts: Counts, size: int) -> BitCounts:
        """Count bits in contexts 0..size-1; both arrays have one shape."""
        total = np.bincount(contexts.reshape(-1), minlength=size)
        ones = np.bincount(contexts[bits == 1].reshape(-1), minlength=size)
        return cls(total - ones, ones)

    def entropies(self) -> NDArray[np.float64]:
        """Bits per bit in each context, Miller-Madow corrected; 0 where nothing was counted.

        Not capped at 1: where contexts hold few bits, a cap would cut one side of the noise.
        """
        total = self.zeros + self.ones
        plain = -_log_share(self.zeros, total) - _log_share(self.ones, total)
        seen = (self.zeros > 0).astype(np.float64) + (self.ones > 0)
        bias = np.maximum(seen - 1, 0) / (2 * np.log(2) * np.maximum(total, 1))
        entropies: NDArray[np.float64] = plain + bias
        return entropies


def entropy_bits(counts: Counts) -> float:
    """Entropy of a symbol, Miller-Madow corrected: plug-in + (values seen - 1) / (2 n ln 2).

    Miller 1955, "Note on the bias of information estimates". At most log2 of the number of values.
    """
    total = np.asarray(counts.sum())
    bias = (np.count_nonzero(counts) - 1) / (2 * np.log(2) * float(total))
    plain = -float(np.sum(_log_share(counts, total)))
    return min(plain + bias, float(np.log2(len(counts))))


def cross_cost_bits(counts: BitCounts, bits: NDArray[np.uint8], contexts: Counts) -> NDArray[np.float64]:
    """Length of each bit's code word, with probabilities (count + 1/2) / (total + 1) from other pictures.

    Krichevsky and Trofimov's estimate: a context that was never counted costs 1 bit.
    """
    zeros, ones = counts.zeros[contexts], counts.ones[contexts]
    told = np.where(bits == 1, ones, zeros)
    cost: NDArray[np.float64] = -np.log2((told + 0.5) / (zeros + ones + 1))
    return cost


def _log_share(part: Counts, total: Counts) -> NDArray[np.float64]:
    """p log2 p for p = part / total, 0 where p is 0."""
    share = part / np.maximum(total, 1)
    return share * np.log2(np.where(share > 0, share, 1.0))
