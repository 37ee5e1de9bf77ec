"""Has it become worse? Sessions against sessions, three looks, several metrics.

The unit is the session, one process: steps within one agree far better than processes do, so a test
on single steps calls every second run of the same code a change. The change s of a noisy metric is
the difference of mean logs, its interval by Student's t over sessions, at a confidence that holds
for all looks at all noisy metrics together (Bonferroni).

FAIL   s ≥ threshold and the whole interval is above the floor; at the last look the latter alone
PASS   the whole interval is below the threshold
else   more sessions, and after the last look INCONCLUSIVE, with what could have been seen
"""

import math
import statistics
from collections.abc import Sequence
from functools import partial

import msgspec

from advisor.gate.cause import find_cause
from advisor.gate.data import Metric, Occasion, Outcome, Policy, Verdict, list_sessions
from advisor.gate.difference import compare_in_turns, compare_means
from advisor.statistics import (
    Estimate,
    estimate_median_over_sessions,
    exponentiate,
    median,
    student_t_quantile,
)

#: Seconds, which differ from session to session.
NOISY: tuple[Metric, ...] = ("throughput", "first_step")
#: New sessions after which a verdict is tried. With three a side, a machine of two speeds now and
#: then shows one side the slow one alone, and no spread.
LOOKS = (4, 7, 10)
#: Of a baseline: with fewer a change of 5 % is missed too often at a spread of 1 %
#: (benchmarks/gate_simulation.py).
BASELINE_SESSIONS = 10
#: A change that no check calls one, however calm the machine is.
LEAST_FLOOR = 0.01
#: How often, at most, a check of unchanged code may fail for one of its noisy metrics.
FALSE_ALARMS = 0.01
#: A change beyond it is an endless one.
_MOST_LOG = 20.0
#: How often a change as large as the smallest that is told would have been found.
_POWER = 0.8


def judge_noisy(
    metric: Metric,
    old: Sequence[Occasion],
    new: Sequence[Occasion],
    policy: Policy,
    *,
    metrics: int,
    known_spread: float = 0.0,
    in_turns: bool = False,
) -> Verdict:
    """Return the verdict on seconds of a step, or to the first one.

    `metrics` noisy ones are judged together; the rest is as in `compare`.
    """
    timed = [_list_logs(metric, side) for side in (old, new)]
    before, after = ([log for _, log in each] for each in timed)
    judge = partial(Verdict, metric=metric, policy=policy)
    if not before or not after:
        return judge(outcome="not_measured", remark="one side has no session of it")
    found = compare_in_turns(*timed) if in_turns else compare_means(before, after)
    point = _to_change(found.log)
    judge = partial(judge, old=_render(metric, old, before), new=_render(metric, new, after))
    if found.error is None:
        return judge(
            outcome="inconclusive",
            change=Estimate(point, None, None),
            remark="two sessions a side are the least",
        )
    alone = FALSE_ALARMS / (len(LOOKS) * metrics)
    half_width = student_t_quantile(1.0 - alone, found.degrees) * found.error
    floor = max(LEAST_FLOOR, _to_change(max(found.spread, known_spread)))
    low, high = (_to_change(found.log + sign * half_width) for sign in (-1.0, 1.0))
    more = student_t_quantile(_POWER, found.degrees) * found.error
    judge = partial(
        judge,
        change=Estimate(point, low, high, 1.0 - 2.0 * alone),
        floor=floor,
        smallest_change=_to_change(half_width + more),
    )
    outcome: Outcome = "inconclusive"
    if high < -floor and point <= -policy.threshold:
        outcome = "improved"
    elif high < policy.threshold:
        outcome = "pass"
    elif low > floor and (len(after) >= LOOKS[-1] or point >= policy.threshold):
        outcome = "fail"
    if outcome in {"pass", "improved"} or point < policy.threshold:
        return judge(outcome=outcome)
    cause = find_cause(old, new, point)
    # A slower machine hides what the code does: nothing is sure of it.
    return judge(outcome="inconclusive" if cause.kind == "machine" else outcome, cause=cause)


def judge_exact(
    metric: Metric,
    old: float | None,
    new: float | None,
    policy: Policy,
    *,
    spread: float = 0.0,
    remark: str = "",
) -> Verdict:
    """Return the verdict on what hardly differs from run to run: bytes, operators.

    More is worse, None was not measured; what is within the spread of the old side's own readings
    is no change.
    """
    judge = partial(Verdict, metric=metric, policy=policy, remark=remark)
    if not old or new is None:
        return judge(outcome="not_measured")
    change, least = new / old - 1.0, max(policy.threshold, spread)
    return judge(
        outcome="fail" if change > least else "improved" if change < -least else "pass",
        old=old,
        new=new,
        change=Estimate(change, change - spread, change + spread, 1.0),
        floor=spread,
    )


def combine(verdicts: Sequence[Verdict]) -> Outcome:
    """Return the outcome of a check: what fails it first, then what it could not tell."""
    counted = [each.outcome for each in verdicts if each.policy.level == "error"]
    order: tuple[Outcome, ...] = ("fail", "inconclusive", "improved", "pass")
    return next((outcome for outcome in order if outcome in counted), "not_measured")


def _list_logs(metric: Metric, side: Sequence[Occasion]) -> list[tuple[int, float]]:
    """Return the log of the seconds of each session that has them, with the session's number."""
    seen = [
        (each.number, median(each.step_s) if metric == "throughput" else each.first_step_s)
        for each in list_sessions(side)
    ]
    return [(number, math.log(seconds)) for number, seconds in seen if seconds is not None]


def _to_change(log: float) -> float:
    """Return the relative change that a difference of logs is."""
    return math.expm1(min(log, _MOST_LOG))


def _render(metric: Metric, side: Sequence[Occasion], logs: Sequence[float]) -> float:
    seconds = math.exp(statistics.median(logs))
    return side[0].setting.micro_batch_size / seconds if metric == "throughput" else seconds


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """How far sessions of one side differ."""

    samples_per_s: float
    #: Standard deviation of the logs of their seconds; None below two sessions.
    fraction: float | None
    #: That the first look of a check would find in four of five cases.
    smallest_change: float | None


def judge_spread(side: Sequence[Occasion]) -> Spread:
    """Return how far the sessions of a side differ, at least one."""
    logs = [log for _, log in _list_logs("throughput", side)]
    fraction = statistics.stdev(logs) if len(logs) > 1 else None
    return Spread(
        samples_per_s=_render("throughput", side, logs),
        fraction=fraction,
        smallest_change=fraction and find_smallest_change(fraction, len(logs), LOOKS[0]),
    )


def find_smallest_change(spread_fraction: float, old: int, new: int) -> float:
    """Return the relative change that a check would find in four of five cases.

    The spread is the standard deviation of sessions on the log scale; `old` and `new` count these,
    at least three together.

    Source: power of the two-sample t-test (Student 1908), its noncentral distribution approximated
    by a shifted t.
    """
    error = spread_fraction * math.sqrt(1.0 / old + 1.0 / new)
    degrees = old + new - 2
    quantiles = student_t_quantile(1.0 - FALSE_ALARMS / (len(LOOKS) * len(NOISY)), degrees)
    return _to_change((quantiles + student_t_quantile(_POWER, degrees)) * error)


def estimate_level(
    metric: Metric, side: Sequence[Occasion], *, as_cost: bool = False
) -> Estimate | None:
    """Return a noisy metric with its interval of 95 % over sessions; None for what is counted.

    `as_cost` gives seconds of a sample in place of samples each second.
    """
    if metric not in NOISY:
        return None
    known = estimate_median_over_sessions([[log] for _, log in _list_logs(metric, side)])
    if metric == "first_step":
        return exponentiate(known)
    size = float(side[0].setting.micro_batch_size)
    if as_cost:
        return exponentiate(known, factor=1.0 / size)
    return exponentiate(known, factor=size, inverse=True)
