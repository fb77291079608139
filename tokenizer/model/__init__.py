"""The networks (torch). Imported by training only; serving runs their ONNX export."""

from tokenizer.model.adaptive_tokenizer import AdaptiveTokenizer, ModelConfig
from tokenizer.model.halting import DistortionHead
from tokenizer.model.refiner import Refiner, RefinerConfig
from tokenizer.model.register_config import RegisterConfig

__all__ = ["AdaptiveTokenizer", "DistortionHead", "ModelConfig", "Refiner", "RefinerConfig", "RegisterConfig"]
