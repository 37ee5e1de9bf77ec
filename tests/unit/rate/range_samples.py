"""Curves of range tests drawn by hand, runs without a base rate, and records of `lr-range`."""

import math

import msgspec
import numpy as np

from advisor.rate.data import LrRangeCurve
from advisor.rate.range_record import LrRangeCommand, LrRangeRecord
from advisor.rate.range_test import LossGuard
from tests.unit.samples import ADAMW, FACTS

LOW, HIGH, STEPS = 1e-5, 1e2, 200


def true_loss(place, *, first=2.3, fall=2.0, onset=-3.0, valley=-1.0, brink=0.0):
    """The loss at a decade: flat, falling in a straight line, flat, then rising steeply."""
    falling = min(max((place - onset) / (valley - onset), 0.0), 1.0)
    return first - fall * falling + 4.0 * fall * max(place - brink, 0.0)


def draw_curve(*, seed=0, noise=0.0, steps=STEPS, tails=False, stop=True, **shape):
    generator = np.random.default_rng(seed)
    rates, losses, guard = [], [], LossGuard()
    stopped_by = "range"
    for step in range(steps):
        place = math.log10(LOW) + step * (math.log10(HIGH) - math.log10(LOW)) / (steps - 1)
        draw = generator.standard_t(4) / math.sqrt(2) if tails else generator.standard_normal()
        rates.append(10.0**place)
        losses.append(true_loss(place, **shape) + noise * float(draw))
        if stop and guard.is_beyond(losses[-1]):
            stopped_by = "divergence"
            break
    return LrRangeCurve(
        micro_batch_size=32,
        gradient_accumulation_steps=1,
        global_batch_size=32,
        steps=steps,
        seed=seed,
        rates=tuple(rates),
        losses=tuple(losses),
        stopped_by=stopped_by,
    )


def draw_curves(count=3, **settings):
    return [draw_curve(seed=seed, **settings) for seed in range(count)]


UNTUNED = msgspec.structs.replace(FACTS, base_batch_size=None)
DEFAULT = msgspec.structs.replace(
    FACTS, optimizer=msgspec.structs.replace(ADAMW, is_default=True), base_batch_size=None
)
BAD = (2.0, 3.0, 4.0, 5.0, 5.0)


def make_curves(size, **settings):
    return tuple(
        msgspec.structs.replace(curve, global_batch_size=size) for curve in draw_curves(**settings)
    )


def make_range_record(**fields):
    defaults = {
        "tool_version": "0",
        "created_at": "2026-01-01T00:00:00+00:00",
        "complete": True,
        "workload": FACTS,
        "command": LrRangeCommand(
            argv=(),
            seed=0,
            precision="fp32",
            steps=200,
            seeds=3,
            budget_s=1.0,
            global_batch_size=32,
        ),
    }
    return LrRangeRecord(**{**defaults, **fields})
