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
from typing import NamedTuple

from advisor.gate.cause import find_cause
from advisor.gate.data import Difference, Metric, Occasion, Outcome, Policy, Verdict
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
#: What is left of a column that others explain is rounding below it.
_LEAST_LENGTH = 1e-7
#: How often a change as large as the smallest that is told would have been found.
_POWER = 0.8


class LogDifference(NamedTuple):
    """New less old, on the log scale."""

    log: float
    #: Standard error; None where there are too few sessions.
    error: float | None
    #: Of freedom of the error.
    degrees: int
    #: Standard deviation of sessions of one kind.
    spread: float


def compare_logs(
    old: Sequence[tuple[int, float]], new: Sequence[tuple[int, float]], *, in_turns: bool
) -> LogDifference:
    """Return the difference of two sides, one session each at least.

    Each has, of every session, when it came among all, and its log. Sessions are taken for
    independent and of one variance; a straight drift is taken out where the sides took turns.

    Source: least squares on the side, and on when the session came (Frisch & Waugh 1933).
    """
    import numpy as np  # noqa: PLC0415 - reading a verdict must not cost its import

    numbers, logs = np.array([*old, *new], dtype=np.float64).T
    is_new = np.repeat([0.0, 1.0], [len(old), len(new)])
    drift = (numbers - numbers.mean()) / (np.ptp(numbers) or 1.0)
    known = np.column_stack([np.ones_like(logs), *([drift] if in_turns else []), is_new])
    degrees = len(logs) - known.shape[1]
    bases, lengths = np.linalg.qr(known)
    is_few = min(len(old), len(new)) < 2 or degrees < 1
    # A side that came before or after the other, as a drift does, cannot be told from one.
    if is_few or min(abs(np.diag(lengths))) < _LEAST_LENGTH:
        log = float(logs[is_new == 1.0].mean() - logs[is_new == 0.0].mean())
        return LogDifference(log, None, degrees, 0.0)
    shares, length = bases.T @ logs, float(lengths[-1, -1])  # of the side, less all before it
    rest = float(np.linalg.norm(logs - bases @ shares)) / math.sqrt(degrees)
    spread = rest if in_turns else statistics.stdev(log for _, log in old)
    return LogDifference(float(shares[-1]) / length, rest / abs(length), degrees, spread)


def judge_noisy(
    metric: Metric,
    old: Occasion,
    new: Occasion,
    policy: Policy,
    *,
    false_alarms: float,
    known_spread: float = 0.0,
    in_turns: bool = False,
    differences: Sequence[Difference] = (),
) -> Verdict:
    """Return the verdict on seconds of a step, or to the first one.

    `false_alarms`: how often, at most, one look at this metric alone may be one; the rest is as in
    `compare`.
    """
    before, after = (_list_logs(metric, side) for side in (old, new))
    judge = partial(Verdict, metric=metric, policy=policy)
    if not before or not after:
        return judge(
            outcome="inconclusive" if policy.level == "error" else "not_measured",
            remark="one side has no session of it",
        )
    found = compare_logs(before, after, in_turns=in_turns)
    point = _to_change(found.log)
    judge = partial(judge, old=_render(metric, old, before), new=_render(metric, new, after))
    if found.error is None:
        return judge(
            outcome="inconclusive",
            change=Estimate(point, None, None),
            remark="two sessions a side are the least",
        )
    half_width = student_t_quantile(1.0 - false_alarms, found.degrees) * found.error
    floor = max(LEAST_FLOOR, _to_change(max(found.spread, known_spread)))
    low, high = (_to_change(found.log + sign * half_width) for sign in (-1.0, 1.0))
    more = student_t_quantile(_POWER, found.degrees) * found.error
    outcome: Outcome = "inconclusive"
    if high < -floor and point <= -policy.threshold:
        outcome = "improved"
    elif high < policy.threshold:
        outcome = "pass"
    elif low > floor and (len(after) >= LOOKS[-1] or point >= policy.threshold):
        outcome = "fail"
    cause = None
    if outcome in {"fail", "inconclusive"} and point >= policy.threshold:
        cause = find_cause(old, new, point, differences)
        # A slower machine hides what the code does: nothing is sure of it.
        outcome = "inconclusive" if cause.kind == "machine" else outcome
    return judge(
        outcome=outcome,
        change=Estimate(point, low, high, 1.0 - 2.0 * false_alarms),
        floor=floor,
        smallest_change=_to_change(half_width + more),
        cause=cause,
    )


def judge_exact(
    metric: Metric,
    old: Sequence[float],
    new: Sequence[float],
    policy: Policy,
    *,
    remark: str = "",
) -> Verdict:
    """Return the verdict on what hardly differs from run to run, by its readings: bytes, operators.

    More is worse; what is within the spread of the old side's own readings is no change.
    """
    judge = partial(Verdict, metric=metric, policy=policy, remark=remark)
    before, after = (median(side) if side else None for side in (old, new))
    if not before or after is None:
        return judge(outcome="not_measured")
    spread = statistics.stdev(map(math.log, old)) if len(old) > 1 else 0.0
    change, least = after / before - 1.0, max(policy.threshold, spread)
    return judge(
        outcome="fail" if change > least else "improved" if change < -least else "pass",
        old=before,
        new=after,
        change=Estimate(change, change - spread, change + spread, 1.0),
        floor=spread,
    )


def combine(verdicts: Sequence[Verdict]) -> Outcome:
    """Return the outcome of a check: what fails it first, then what it could not tell."""
    counted = [each.outcome for each in verdicts if each.policy.level == "error"]
    order: tuple[Outcome, ...] = ("fail", "inconclusive", "improved", "pass")
    return next((outcome for outcome in order if outcome in counted), "not_measured")


def _list_logs(metric: Metric, side: Occasion) -> list[tuple[int, float]]:
    """Return the log of the seconds of each session that has them, with the session's number."""
    seen = [
        (each.number, median(each.step_s) if metric == "throughput" else each.first_step_s)
        for each in side.sessions
    ]
    return [(number, math.log(seconds)) for number, seconds in seen if seconds is not None]


def _to_change(log: float) -> float:
    """Return the relative change that a difference of logs is."""
    return math.expm1(min(log, _MOST_LOG))


def _render(metric: Metric, side: Occasion, logs: Sequence[tuple[int, float]]) -> float:
    seconds = math.exp(statistics.fmean(log for _, log in logs))
    return side.setting.micro_batch_size / seconds if metric == "throughput" else seconds


def measure_spread(side: Occasion) -> float | None:
    """Return the standard deviation of the logs of sessions' seconds; None below two of them."""
    logs = [log for _, log in _list_logs("throughput", side)]
    return statistics.stdev(logs) if len(logs) > 1 else None


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


def estimate_level(metric: Metric, side: Occasion, *, as_cost: bool = False) -> Estimate | None:
    """Return a noisy metric with its interval of 95 % over sessions; None for what is counted.

    `as_cost` gives seconds of a sample in place of samples each second.
    """
    if metric not in NOISY:
        return None
    known = estimate_median_over_sessions([[log] for _, log in _list_logs(metric, side)])
    if metric == "first_step":
        return exponentiate(known)
    size = float(side.setting.micro_batch_size)
    return exponentiate(known, factor=1.0 / size if as_cost else size, inverse=not as_cost)
