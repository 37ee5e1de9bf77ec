"""What follows from the two sides: every metric's verdict, and whether they may be compared."""

import math
import statistics
from collections.abc import Mapping, Sequence
from functools import partial

from advisor.engine.conclusions import Conclusions, Topic
from advisor.gate.cause import find_peak_bytes, list_peak_bytes
from advisor.gate.data import (
    GATES_STACK,
    IN_TURNS,
    KNOWN_SPREAD,
    NEW,
    OLD,
    POLICIES,
    POLICY,
    Comparison,
    Metric,
    Occasion,
    Outcome,
    Policy,
    Verdict,
    list_peaks,
    list_sessions,
)
from advisor.gate.setting import list_differences
from advisor.gate.verdict import LOOKS, NOISY, combine, judge_exact, judge_noisy


def compare(
    old: Sequence[Occasion],
    new: Sequence[Occasion],
    policies: Mapping[Metric, Policy] | None = None,
    *,
    known_spread: float = 0.0,
    gates_stack: bool = False,
    in_turns: bool = False,
) -> Comparison:
    """Return every verdict on the new side against the old.

    `policies` are of metrics that are not to have the usual one, `known_spread` of sessions of this
    training on this machine, as measured elsewhere; `in_turns`: the sides' sessions took turns, as
    they are numbered.
    """
    all_policies: dict[Metric, Policy] = {**POLICIES, **(policies or {})}
    on = {metric: each for metric, each in all_policies.items() if each.level != "off"}
    differences = list_differences(old, new)
    sessions = len(list_sessions(old)), len(list_sessions(new))
    conclude = partial(Comparison, differences=differences, sessions=sessions)
    if any(each.tier == "identity" for each in differences):
        return conclude(outcome="not_measured", verdicts=())
    noisy = [metric for metric in NOISY if metric in on]
    verdicts = [
        judge_noisy(
            metric,
            old,
            new,
            on[metric],
            metrics=len(noisy),
            known_spread=known_spread,
            in_turns=in_turns,
        )
        for metric in noisy
    ]
    verdicts += _judge_memory(old, new, on)
    if "operators" in on:
        before, after = (
            next((each.operators for each in side if each.operators is not None), None)
            for side in (old, new)
        )
        verdicts.append(judge_exact("operators", before, after, on["operators"]))
    outcome = combine(verdicts)
    # With a stack that changed nothing is gated but where it is asked for.
    if differences and not gates_stack and outcome in {"fail", "pass", "improved"}:
        outcome = "inconclusive"
    order = list(POLICIES)
    verdicts.sort(key=lambda each: order.index(each.metric))
    return conclude(outcome=outcome, verdicts=tuple(verdicts))


def _judge_memory(
    old: Sequence[Occasion], new: Sequence[Occasion], on: Mapping[Metric, Policy]
) -> list[Verdict]:
    """Return the verdicts on the peak at the pinned batch, and on that at the largest one.

    Both sides ran the same sizes: at the largest, what grows with the batch weighs most.
    """
    if not old or not new:
        return []
    size = old[0].setting.micro_batch_size
    sizes: dict[Metric, int] = {"peak_memory": size, "largest_batch": find_largest_size(old)}
    found = []
    for metric, at in sizes.items():
        if metric not in on or (metric == "largest_batch" and at == size):
            continue
        remark = f"at batch {at:,}" if at != size else ""
        before, after = (find_peak_bytes(side, at) for side in (old, new))
        verdict = judge_exact(
            metric, before, after, on[metric], spread=_measure_spread(old, at), remark=remark
        )
        unfit = [each for each in list_peaks(new) if each.peak_bytes is None]
        if before and any(each.micro_batch_size == at for each in unfit):
            verdict = Verdict(
                metric=metric,
                outcome="fail",
                policy=on[metric],
                old=before,
                remark=f"batch {at:,} does not fit any more",
            )
        found.append(verdict)
    return found


def find_largest_size(side: Sequence[Occasion]) -> int:
    """Return the largest size at which the memory of a side was measured, else the pinned one."""
    sizes = [peak.micro_batch_size for peak in list_peaks(side) if peak.peak_bytes is not None]
    return max(sizes, default=side[0].setting.micro_batch_size)


def _measure_spread(side: Sequence[Occasion], size: int) -> float:
    """Return the standard deviation of the peaks at a size, relative; 0 of a single one."""
    logs = [math.log(peak_bytes) for peak_bytes in list_peak_bytes(side, size)]
    return statistics.stdev(logs) if len(logs) > 1 else 0.0


def is_decided(comparison: Comparison) -> bool:
    """Return whether more sessions would change nothing: all told, or the last look taken."""
    open_outcomes: set[Outcome] = {"inconclusive", "not_measured"}
    waits = any(
        each.outcome in open_outcomes and each.policy.level == "error" and each.metric in NOISY
        for each in comparison.verdicts
    )
    return not waits or comparison.sessions[1] >= LOOKS[-1]


def _conclude(conclusions: Conclusions) -> Comparison | None:
    record = conclusions.record
    old, new = record.all(OLD), record.all(NEW)
    if not old or not new:
        return None
    return compare(
        old,
        new,
        record.get(POLICY),
        known_spread=record.get(KNOWN_SPREAD) or 0.0,
        gates_stack=record.get(GATES_STACK) or False,
        in_turns=record.get(IN_TURNS) or False,
    )


COMPARISON = Topic("comparison", Comparison, _conclude)
