"""In which arithmetic networks train."""

from __future__ import annotations

from functools import lru_cache

import torch


def autocast(device: torch.device, is_wanted: bool = True) -> torch.autocast:
    """bf16 within, where the device multiplies in it; fp32 elsewhere."""
    return torch.autocast(device.type, torch.bfloat16, enabled=is_wanted and _has_bf16(device.type))


@lru_cache
def _has_bf16(kind: str) -> bool:
    """A processor without AVX-512 turns every number into fp32 and back: 15 times slower (docs/log.md)."""
    return kind != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
