"""The learning rate to advise: the best of those that the trial ran and that passed."""

import math
from collections.abc import Sequence

import msgspec

from advisor.analysis.best_rate import choose_best_rate
from advisor.analysis.trial import TrialVerdict, judge_base, judge_trial
from advisor.conclusions import LearningRate, OptimizerChanges
from advisor.measurements import TrialBranch, WorkloadFacts
from advisor.record import RunRecord

#: Rates and settings closer than this, relatively, are the same: they were stored and read again.
_SAME = 1e-9


class SettledRate(msgspec.Struct, frozen=True, kw_only=True):
    """The rate after the trial.

    Attributes:
        learning_rate: As it may be printed.
        refutation: What a trial showed against every rate that it ran; None where one passed, or
            where none was run.
        base_failed: Whether the user's own pair did not train.
        is_too_short: Whether the trial ended before it could show anything for or against a rate.
        beats_base: Whether the advised pair shows that the base rate is too low.
        is_ranged: Whether the rate comes from a range test, since no base rate is known.
    """

    learning_rate: LearningRate
    refutation: str | None = None
    base_failed: bool = False
    is_too_short: bool = False
    beats_base: bool = False
    is_ranged: bool = False

    @property
    def is_refuted(self) -> bool:
        """Whether rates were tried and none may be advised."""
        return self.refutation is not None


def settle_rate(
    proposed: LearningRate,
    record: RunRecord,
    global_batch_size: int,
    *,
    changes: OptimizerChanges,
    noise_scale: float | None,
) -> SettledRate:
    """Return the rate with the value that the record's trials allow.

    Args:
        proposed: The rule's rate.
        record: Holds the trials.
        global_batch_size: The advised batch.
        changes: Other settings that the advised pair is run with.
        noise_scale: In samples; None where unknown.
    """
    base_rate, base_size = proposed.base_value, proposed.base_batch_size
    if proposed.proposed is None or base_rate is None or base_size is None:
        return SettledRate(learning_rate=proposed)
    base = [
        branch
        for branch in record.trials
        if branch.global_batch_size == base_size
        and math.isclose(branch.learning_rate, base_rate, rel_tol=_SAME)
        and branch.beta2 is None
        and branch.weight_decay is None
    ]
    if global_batch_size == base_size:
        return _settle_base(proposed, record, base, noise_scale)
    tried = group_tried(record.trials, global_batch_size, changes)
    if not tried:
        return SettledRate(
            learning_rate=_explain(proposed, why_not_run(record)),
        )
    verdicts = {rate: judge_trial(base, tried[rate], noise_scale) for rate in tried}
    return settle_tried(proposed, verdicts)


def why_not_run(record: RunRecord) -> str:
    """Return why no trial ran, with the rule that this leaves no rate to print."""
    facts = record.workload
    return f"{_name_obstacle(facts)}, and no rate is printed that has not been run"


def _name_obstacle(facts: WorkloadFacts | None) -> str:
    if facts is not None and facts.is_step_only:
        return "make_step leaves nothing to try a rate with"
    if facts is not None and not facts.has_dataset:
        return "there is no make_dataset to try it on"
    return "it was not tried before the run ended"


def _settle_base(
    proposed: LearningRate,
    record: RunRecord,
    base: Sequence[TrialBranch],
    noise_scale: float | None,
) -> SettledRate:
    """Return the base rate at its own batch once it has been run, unless another trains better."""
    if not base:
        reason = f"{why_not_run(record)}; at its own batch the base rate needs no scaling"
        return SettledRate(learning_rate=_explain(proposed, reason))
    verdict = judge_base(base)
    if not verdict.passed:
        return _refute(proposed, verdict)
    assert proposed.base_value is not None
    tried = group_tried(record.trials, base[0].global_batch_size, OptimizerChanges())
    verdicts = {rate: judge_trial(base, tried[rate], noise_scale) for rate in tried}
    settled = settle_tried(proposed, verdicts)
    if settled.learning_rate.value != proposed.base_value:
        return settled
    reason = f"the advised batch is the base batch, where the base rate stands; {verdict.reason}"
    rate = msgspec.structs.replace(settled.learning_rate, reason=reason)
    return msgspec.structs.replace(settled, learning_rate=rate)


def settle_tried(proposed: LearningRate, verdicts: dict[float, TrialVerdict]) -> SettledRate:
    """Return the best rate that passed, and whether that moved the proposal."""
    value = choose_best_rate(verdicts)
    if value is None:
        return _refute(proposed, verdicts[min(verdicts)], rates=list(verdicts))
    reason = verdicts[value].reason
    failed = [rate for rate in verdicts if rate > value and not verdicts[rate].passed]
    if failed:
        reason += f"; at {min(failed):.3g} it {verdicts[min(failed)].reason}"
    assert proposed.proposed is not None
    is_lower = value < proposed.proposed * (1.0 - _SAME)
    is_higher = value > proposed.proposed * (1.0 + _SAME)
    return SettledRate(
        learning_rate=msgspec.structs.replace(
            proposed,
            value=value,
            reason=reason,
            capped_by="trial" if is_lower else None,
            raised_by="trial" if is_higher else None,
        ),
        beats_base=verdicts[value].beats_base,
    )


def _refute(
    proposed: LearningRate, verdict: TrialVerdict, rates: Sequence[float] = ()
) -> SettledRate:
    """Return the proposal without a value, and what the trial showed against it, if anything."""
    reason = verdict.reason
    if verdict.is_too_short:
        subject = f"the rate {min(rates):.3g} " if rates and reason.startswith("was run") else ""
        reason = f"the trial was cut short: {subject}{reason}"
        return SettledRate(learning_rate=_explain(proposed, reason), is_too_short=True)
    if not verdict.base_failed:
        span = " to ".join(dict.fromkeys(f"{rate:.3g}" for rate in (max(rates), min(rates))))
        reason = f"none of the rates tried ({span}) trained; the lowest {verdict.reason}"
    return SettledRate(
        learning_rate=_explain(proposed, reason),
        refutation=reason,
        base_failed=verdict.base_failed,
    )


def _explain(proposed: LearningRate, reason: str) -> LearningRate:
    return msgspec.structs.replace(proposed, value=None, reason=reason)


def group_tried(
    trials: Sequence[TrialBranch], global_batch_size: int, changes: OptimizerChanges
) -> dict[float, list[TrialBranch]]:
    """Return the branches of the advised batch and settings, by rate."""
    groups: dict[float, list[TrialBranch]] = {}
    for branch in trials:
        if (
            branch.global_batch_size == global_batch_size
            and _is_same(branch.beta2, changes.beta2)
            and _is_same(branch.weight_decay, changes.weight_decay)
        ):
            groups.setdefault(branch.learning_rate, []).append(branch)
    return groups


def _is_same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=_SAME)
