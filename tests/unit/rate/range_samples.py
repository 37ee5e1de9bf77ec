"""Curves of range tests drawn by hand, runs without a base rate, and records of `lr-range`."""

import math

import msgspec
import numpy as np

from advisor.engine.record import open_record
from advisor.engine.spec import Spec
from advisor.loader.data import LoopTask
from advisor.rate.conclude import FIRST_TRIAL_SEED
from advisor.rate.range_data import LrRangeCurve, LrRangeTask, RangePlan
from advisor.rate.range_stage import KIND
from advisor.rate.range_test import LossGuard, conclude_lr_range
from advisor.training.data import WorkloadSpec
from tests.unit.report.sample_run import build_environment
from tests.unit.samples import ADAMW, FACTS, make_branches

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


WORKLOAD = msgspec.structs.replace(
    FACTS,
    how_model="make_model of the model file",
    how_loss="inferred: integer targets, so cross-entropy of model(inputs)",
    how_optimizer="make_optimizer of the model file",
    how_batch="make_dataset of the model file",
)

UNTUNED = msgspec.structs.replace(FACTS, base_batch_size=None)
DEFAULT = msgspec.structs.replace(
    FACTS, optimizer=msgspec.structs.replace(ADAMW, is_default=True), base_batch_size=None
)
BAD = (2.0, 3.0, 4.0, 5.0, 5.0)


def make_curves(size, **settings):
    return tuple(
        msgspec.structs.replace(curve, global_batch_size=size) for curve in draw_curves(**settings)
    )


def make_range_record(*, size=32, created_at="2026-01-01T00:00:00+00:00", **fields):
    spec = Spec(workload=WorkloadSpec(target="model.py"))
    record = open_record(KIND.record_type, spec, kind=KIND.name, argv=())
    defaults = {"tool_version": "0", "complete": True, "workload": FACTS, "created_at": created_at}
    plan = RangePlan(global_batch_size=size)
    return msgspec.structs.replace(record, range=plan, **{**defaults, **fields})


def build_lr_range(*, losses=None, curves=None, **fields):
    """Return the record of a whole command, whose trial trains unless told otherwise."""
    curves = tuple(draw_curves(noise=0.05) if curves is None else curves)
    record = make_range_record(
        workload=WORKLOAD, environment=build_environment(), elapsed_s=12.34, lr_ranges=curves
    )
    conclusion = conclude_lr_range(curves)
    trials = ()
    if conclusion is not None and conclusion.suggested is not None:
        shape = {"losses": losses} if losses else {}
        own = {"first_seed": FIRST_TRIAL_SEED, **shape}
        trials = tuple(make_branches(32, conclusion.suggested, **own))
    return msgspec.structs.replace(record, trials=trials, **fields)


class RangeRunner:
    """Gives curves, then branches that train up to a rate, one of them best; fails if told to."""

    def __init__(self, *, largest=1e9, best=None, error=None, seeds=3, **shape):
        self.largest, self.error, self.shape, self.seeds = largest, error, shape, seeds
        self.tasks, self.best = [], best

    def run(self, task, *, timeout_s, on_result=None):
        if self.error is not None:
            raise self.error
        if isinstance(task, LoopTask):
            return ()
        self.tasks.append(task)
        size = task.micro_batch_size * task.gradient_accumulation_steps
        if isinstance(task, LrRangeTask):
            results = [
                msgspec.structs.replace(curve, global_batch_size=size)
                for curve in draw_curves(**self.shape)
            ]
        else:
            rate = task.learning_rate
            self.best = self.best or rate
            end = 0.5 + 0.1 * abs(math.log2(rate / self.best))
            losses = (2.0, 1.0, end, end, end) if rate <= self.largest else BAD
            results = make_branches(
                size, rate, losses=losses, seeds=self.seeds, first_seed=task.seeds[0]
            )
        for result in results:
            on_result(result)
        return tuple(results)
