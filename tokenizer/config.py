"""TokenizerConfig: the frozen facts about trained weights, as canonical JSON. Knows no files."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from tokenizer.coding import Coding
from tokenizer.errors import ArtifactError

FORMAT_VERSION = 3
# Moves whenever resizing or pixel scaling changes: the same picture would give other tokens.
PREPROCESS_VERSION = 1
LAYOUTS = ("spectral", "register")
PRECISIONS = ("fp32", "int8")


@dataclass(frozen=True, slots=True)
class TokenizerConfig:
    """What a model is, besides its weights. Part of the fingerprint."""

    name: str
    version: str
    layout: str
    """Meaning of the tokens: one of LAYOUTS."""
    candidate_lengths: tuple[int, ...]
    """Lengths at which the halting head predicts PSNR: of the spectral layout on a 256 x 256 canvas, of the
    register layout, whose streams are equally long on all, on any."""
    margin_scores: dict[str, dict[str, float]]
    """Per coding and coverage (as text, so that JSON keeps the key exact), how many predicted spreads the
    margin takes: calibrated on pictures that the head has not seen."""
    format_version: int = FORMAT_VERSION
    preprocess_version: int = PREPROCESS_VERSION
    precision: str = "fp32"
    """Of the decoder's convolutions; the encoder and everything that decides ids is fp32 or integer."""

    def __post_init__(self) -> None:
        _check_versions(self.format_version, self.preprocess_version)
        if self.layout not in LAYOUTS:
            raise ArtifactError(f"token layout {self.layout!r} is unknown; known: {', '.join(LAYOUTS)}")
        if self.precision not in PRECISIONS:
            raise ArtifactError(f"precision must be among {', '.join(PRECISIONS)}, got {self.precision!r}")
        if list(self.candidate_lengths) != sorted(set(self.candidate_lengths)):
            raise ArtifactError(f"candidate lengths must increase, got {self.candidate_lengths}")
        for coding, per_coverage in self.margin_scores.items():
            if coding not in list(Coding):
                raise ArtifactError(f"coding {coding!r} is unknown; known: {', '.join(Coding)}")
            scores = {float(coverage): score for coverage, score in per_coverage.items()}
            if not all(0.0 < coverage < 1.0 and math.isfinite(score) for coverage, score in scores.items()):
                raise ArtifactError(f"a coverage lies between 0 and 1, and its score is finite: {scores}")

    def scores(self, coding: Coding) -> dict[float, float]:
        """Margin score per coverage; none for a coding that was not calibrated."""
        return {float(coverage): float(s) for coverage, s in self.margin_scores.get(coding, {}).items()}

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces; the same config is the same bytes."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> TokenizerConfig:
        """Inverse of `to_json`. Raises ArtifactError."""
        try:
            data: dict[str, Any] = json.loads(text)
            _check_versions(data["format_version"], data["preprocess_version"])
            return cls(**{**data, "candidate_lengths": tuple(data["candidate_lengths"])})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"config.json is not a tokenizer config: {error}") from error


def _check_versions(format_version: object, preprocess_version: object) -> None:
    if format_version != FORMAT_VERSION or preprocess_version != PREPROCESS_VERSION:
        raise ArtifactError(
            f"artifact format {format_version} with preprocessing {preprocess_version}; "
            f"this release reads {FORMAT_VERSION} with {PREPROCESS_VERSION}"
        )
