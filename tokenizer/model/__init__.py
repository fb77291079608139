"""The networks (torch). Imported by training only; serving runs their ONNX export."""

from tokenizer.model.adaptive_tokenizer import AdaptiveTokenizer, ModelConfig
from tokenizer.model.halting import DistortionHead
from tokenizer.model.refiner import Refiner, RefinerConfig

__all__ = ["AdaptiveTokenizer", "DistortionHead", "ModelConfig", "Refiner", "RefinerConfig"]
