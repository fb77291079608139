"""From measured speeds to settings for a goal. Pure; measures nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from serving.limits import MAX_QUEUE_SIZE_BYTES
from serving.tune import OPS, Machine, Way

Profile = Literal["latency", "throughput"]
PROFILES: tuple[Profile, ...] = ("latency", "throughput")

# Gains below this are within what rounds differ by on a quiet machine: then the smaller number wins.
NOISE = 0.03
# A larger batch makes its first picture wait for the last, so it must earn that.
MIN_BATCH_GAIN = 0.05


@dataclass(frozen=True, slots=True)
class Advice:
    """Settings for one profile, and what they should achieve."""

    profile: Profile
    settings: dict[str, str | int]
    """Names of ServingConfig."""
    pictures_per_s: dict[str, float]
    """By operation, each alone."""
    p50_ms: dict[str, float]
    p99_ms: dict[str, float]
    memory_bytes: int

    def env_lines(self) -> list[str]:
        """As an environment file."""
        return [f"TESSERA_{name.upper()}={value}" for name, value in self.settings.items()]


def advise(machine: Machine, model: str, profile: Profile, slo_s: float) -> Advice:
    """The best settings for this model: short calls, or many pictures."""
    base = _fastest_alone(machine, model) if profile == "latency" else _most_pictures(machine, model)
    batch_size = 1 if profile == "latency" else _batch_size(machine, model)
    ways = {op: Way(op, model, base.threads, base.instances) for op in OPS}
    rates = {op: machine.speeds[way].pictures_per_s for op, way in ways.items()}
    alone = {op: machine.speeds[Way(op, model, base.threads)] for op in OPS}
    settings: dict[str, str | int] = {
        "model": model,
        "num_threads": base.threads,
        "num_instances": base.instances,
        "max_batch_size": batch_size,
        "image_threads": _image_threads(machine),
        "max_queue_items": queue_items(slo_s, min(rates.values()), batch_size),
    }
    return Advice(
        profile,
        settings,
        rates,
        {op: speed.p50_ms for op, speed in alone.items()},
        {op: speed.p99_ms for op, speed in alone.items()},
        machine.resident_bytes + MAX_QUEUE_SIZE_BYTES,
    )


def queue_items(slo_s: float, pictures_per_s: float, batch_size: int) -> int:
    """Little's law: what waits longer than the objective is answered too late, so it need not wait at all.

    >>> queue_items(0.5, 40.0, batch_size=4)
    20
    """
    return max(batch_size, math.floor(slo_s * pictures_per_s), 1)


def best_model(machine: Machine, models: Iterable[str]) -> str:
    """The one with most pictures per second; the first if none is better than noise."""
    first, *others = models
    best = max(others, key=lambda model: _rate(machine, _most_pictures(machine, model)), default=first)
    gain = _rate(machine, _most_pictures(machine, best)) / _rate(machine, _most_pictures(machine, first))
    return best if gain > 1 + NOISE else first


def _fastest_alone(machine: Machine, model: str) -> Way:
    ways = [way for way in _unbatched(machine, model) if way.instances == 1]
    return _first_within_noise(ways, [1 / _median_s(machine, way) for way in ways])


def _most_pictures(machine: Machine, model: str) -> Way:
    ways = sorted(_unbatched(machine, model), key=lambda way: (way.threads * way.instances, way.threads))
    return _first_within_noise(ways, [_rate(machine, way) for way in ways])


def _batch_size(machine: Machine, model: str) -> int:
    """The smallest batch that none of the larger ones beats by enough."""
    sizes = {way.batch_size for way in machine.speeds if way.model == model}
    gains = {size: _gain_of_batch(machine, model, size) for size in sorted(sizes)}
    return next(size for size in gains if gains[size] * (1 + MIN_BATCH_GAIN) >= max(gains.values()))


def _gain_of_batch(machine: Machine, model: str, size: int) -> float:
    """Pictures per second over those without batches, of the operation that gains less: one setting is for
    both, and what one gains is no comfort to callers of the other.
    """

    def rate(op: str, batch_size: int) -> float:
        return machine.speeds[Way(op, model, 1, machine.processors, batch_size)].pictures_per_s

    return min(rate(op, size) / rate(op, 1) for op in OPS)


def _image_threads(machine: Machine) -> int:
    ways = [way for way in machine.speeds if way.op == "pictures"]
    ways.sort(key=lambda way: way.instances)
    return _first_within_noise(ways, [machine.speeds[way].pictures_per_s for way in ways]).instances


def _unbatched(machine: Machine, model: str) -> list[Way]:
    """One way per (threads, instances), as `encode`."""
    ways = (way for way in machine.speeds if (way.op, way.model, way.batch_size) == ("encode", model, 1))
    return sorted(ways, key=lambda way: (way.threads, way.instances))


def _rate(machine: Machine, way: Way) -> float:
    """Pictures there and back per second."""
    both = (Way(op, way.model, way.threads, way.instances, way.batch_size) for op in OPS)
    return 1 / sum(1 / machine.speeds[one].pictures_per_s for one in both)


def _median_s(machine: Machine, way: Way) -> float:
    return sum(machine.speeds[Way(op, way.model, way.threads)].p50_ms for op in OPS) / 1000


def _first_within_noise(ways: list[Way], scores: list[float]) -> Way:
    return next(way for way, score in zip(ways, scores, strict=True) if score * (1 + NOISE) >= max(scores))
