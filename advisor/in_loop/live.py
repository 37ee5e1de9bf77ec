"""What a running training's log says of the batch and rate that would be best now."""

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from advisor.advice.schedule import interpolate_step_s
from advisor.in_loop.data import WINDOW_STEPS, NoiseScale, pool_steps
from advisor.in_loop.growth import want_change
from advisor.noise.course import fit_trend
from advisor.noise.data import NoiseLogEntry, NoisePoint, choose_metric, get_working_noise_scale
from advisor.noise.log import NoiseLine, select_entries
from advisor.noise.point import estimate_log_points
from advisor.rate.data import Candidate
from advisor.rate.rules import find_rule
from advisor.statistics import median
from advisor.training.data import OptimizerFacts

#: Times the steps so far beyond which nothing is said of what will be.
_FORESIGHT = 10.0
#: Last measured steps that tell the batch of now, which may just have changed.
_RECENT = 8

#: What the noise scale asks of the batch: to double now, at a later step, not as far as is seen, or
#: to halve; `unknown` before there is a noise scale.
Change = Literal["double", "later", "stay", "halve", "unknown"]


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """A batch with the rate and optimizer that go with it; None takes what the log says last."""

    batch_size: int | None = None
    learning_rate: float | None = None
    optimizer: str | None = None


class LiveAdvice(msgspec.Struct, frozen=True, kw_only=True):
    """What the log says now."""

    #: Optimizer steps taken before the last measured one, and how many were measured.
    at_step: int
    steps: int
    #: In which the training goes on.
    now: Setting
    noise: NoiseScale | None
    points: tuple[NoisePoint, ...]
    #: By noise, and the time of a step where it was measured; None before there is a noise scale.
    best_batch_size: int | None
    #: By rule, from the pair that was given, or of now.
    best_rate: float | None
    change: Change
    #: For `later`.
    change_at_step: int | None = None
    #: Whether steps of that batch, where they were timed, let it train faster.
    does_change_pay: bool = True
    #: Whether the time of a step entered.
    is_by_time: bool = False


def conclude_live(
    lines: Sequence[tuple[NoiseLine, NoiseLogEntry]],
    *,
    base: Setting,
    candidates: Sequence[Candidate] = (),
) -> LiveAdvice:
    """Return what the lines say, one at least; those of the last line's estimator count.

    Rates are scaled from the `base` pair; the candidates are by size, as a run timed them.
    """
    last, entries = lines[-1][0], select_entries(lines)
    noise = pool_steps(entries[-WINDOW_STEPS:], last.estimator or "micro-batches")
    points = estimate_log_points(entries)
    size = max(1, round(median([entry.samples for entry in entries[-_RECENT:]])))
    now = Setting(
        batch_size=size,
        learning_rate=last.learning_rate,
        optimizer=base.optimizer or last.optimizer,
    )
    scale = None if noise is None else get_working_noise_scale(noise.estimate)
    best = None if scale is None else _choose_batch(size, scale, candidates)
    change, at_step = _foresee(size, noise, points, last.step)
    return LiveAdvice(
        at_step=last.step,
        steps=len(entries),
        now=now,
        noise=noise,
        points=points,
        best_batch_size=best,
        best_rate=None if best is None or scale is None else _scale_rate(now, base, best, scale),
        change=change,
        change_at_step=at_step,
        does_change_pay=noise is None or _pays(change, size, noise, candidates),
        is_by_time=bool(candidates),
    )


def _choose_batch(size: int, noise_scale: float, candidates: Sequence[Candidate]) -> int:
    """Return the batch of least time to a loss, (1 + φ/B)·t(B); else the one nearest to φ.

    Source: McCandlish et al. 2018, arXiv:1812.06162.
    """
    if candidates:
        best = min(candidates, key=lambda c: (1.0 + noise_scale / c.global_batch_size) * c.step_s)
        return best.global_batch_size
    return max(1, round(size * 2.0 ** round(math.log2(noise_scale / size))))


def _scale_rate(now: Setting, base: Setting, batch_size: int, noise_scale: float) -> float | None:
    size, rate = base.batch_size or now.batch_size, base.learning_rate or now.learning_rate or None
    assert size is not None
    facts = None if now.optimizer is None else OptimizerFacts(name=now.optimizer)
    rule = find_rule(facts, size, rate)
    return None if rule is None else rule.scale(batch_size, noise_scale)


def _pays(change: Change, size: int, noise: NoiseScale, candidates: Sequence[Candidate]) -> bool:
    """Return whether the batch asked for trains faster, at the end that speaks least for it."""
    if change not in {"double", "later", "halve"} or not candidates:
        return True
    other = size // 2 if change == "halve" else 2 * size
    scale = {"double": noise.low, "halve": noise.high}.get(change) or 2.0 * size
    if not candidates[0].global_batch_size <= other <= candidates[-1].global_batch_size:
        return False
    own_s, other_s = (
        (1.0 + scale / each) * interpolate_step_s(candidates, each) for each in (size, other)
    )
    return other_s < own_s


def _foresee(
    size: int, noise: NoiseScale | None, points: Sequence[NoisePoint], last_step: int
) -> tuple[Change, int | None]:
    """Return what is asked of the batch, and when, by the power law through the points."""
    if noise is None or not noise.is_known:
        return "unknown", None
    wanted = want_change(size, noise)
    if wanted:
        return "double" if wanted > 0 else "halve", None
    trend = fit_trend(choose_metric(points, adapted=False))
    if trend is None or trend.direction != "rose" or not noise.low or noise.low <= 0.0:
        return "stay", None
    run = math.log1p(trend.to_step) - math.log1p(trend.from_step)
    power = math.log(trend.factor.point or 1.0) / run
    logs = math.log(2.0 * size / noise.low) / power if power > 0.0 else math.inf
    if logs > math.log(_FORESIGHT):
        return "stay", None
    return "later", max(last_step + 1, round((noise.at_step + 1) * math.exp(logs)))
