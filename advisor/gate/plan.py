"""What follows from the two sides: every metric's verdict, and whether they may be compared."""

from collections.abc import Mapping, Sequence
from functools import partial

from advisor.engine.record import Conclusions, Topic
from advisor.gate.cause import list_peak_bytes
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
    Peak,
    Policy,
    Verdict,
    merge,
)
from advisor.gate.setting import list_differences
from advisor.gate.verdict import FALSE_ALARMS, LOOKS, NOISY, combine, judge_exact, judge_noisy
from advisor.statistics import median


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
    differences, before, after = list_differences(old, new), merge(old), merge(new)
    sessions = len(before.sessions), len(after.sessions)
    conclude = partial(Comparison, differences=differences, sessions=sessions)
    if any(each.tier == "identity" for each in differences):
        return conclude(outcome="not_measured", verdicts=())
    judge = partial(
        judge_noisy,
        false_alarms=FALSE_ALARMS / (len(LOOKS) * max(1, len(on.keys() & {*NOISY}))),
        known_spread=known_spread,
        in_turns=in_turns,
        differences=differences,
    )
    verdicts = []
    for metric, policy in on.items():
        if metric in NOISY:
            verdicts.append(judge(metric, before, after, policy))
        elif metric == "operators":
            was, now = ([n for n in (side.operators,) if n is not None] for side in (before, after))
            verdicts.append(judge_exact(metric, was, now, policy))
        else:
            verdicts += _judge_memory(metric, before, after, policy)
    outcome = combine(verdicts)
    # With a stack that changed nothing is gated but where it is asked for.
    if differences and not gates_stack and outcome in {"fail", "pass", "improved"}:
        outcome = "inconclusive"
    return conclude(outcome=outcome, verdicts=tuple(verdicts))


def _judge_memory(metric: Metric, old: Occasion, new: Occasion, policy: Policy) -> list[Verdict]:
    """Return the verdict on the peak at the pinned batch, or at the largest where that is another.

    Both sides ran the same sizes: at the largest, what grows with the batch weighs most.
    """
    size = at = old.setting.micro_batch_size
    if metric == "largest_batch" and (at := find_largest_size(old)) == size:
        return []
    before, after = (list_peak_bytes(side, at) for side in (old, new))
    if before and Peak(micro_batch_size=at, peak_bytes=None) in new.peaks:
        remark = f"batch {at:,} does not fit any more"
        fail = partial(Verdict, metric=metric, outcome="fail", policy=policy)
        return [fail(old=median(before), remark=remark)]
    remark = f"at batch {at:,}" if at != size else ""
    return [judge_exact(metric, before, after, policy, remark=remark)]


def find_largest_size(side: Occasion) -> int:
    """Return the largest size at which the memory of a side was measured, else the pinned one."""
    sizes = (peak.micro_batch_size for peak in side.peaks if peak.peak_bytes is not None)
    return max(sizes, default=side.setting.micro_batch_size)


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
