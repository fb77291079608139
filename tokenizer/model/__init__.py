"""The networks (torch). Imported by training only; serving runs their ONNX export."""

from tokenizer.model.adaptive_tokenizer import AdaptiveTokenizer, ModelConfig
from tokenizer.model.halting import DistortionHead

__all__ = ["AdaptiveTokenizer", "DistortionHead", "ModelConfig"]
