"""The learning rate to advise: the best of those that ran at the batch and that passed."""

from collections.abc import Mapping, Sequence

import msgspec

from advisor.engine.conclusions import Conclusions, Topic
from advisor.rate.data import (
    LR_RANGES,
    RANGE,
    TRIALS,
    LearningRate,
    LrRangeConclusion,
    LrRangeCurve,
    OptimizerChanges,
    TrialBranch,
)
from advisor.rate.range_test import conclude_lr_range
from advisor.rate.rules import NOT_RUN, plan_pair
from advisor.rate.trial import Tried, choose_best_rate, group_tried, is_same
from advisor.rate.verdict import TrialVerdict, judge_alone
from advisor.statistics import Estimate
from advisor.training.data import OptimizerFacts, WorkloadFacts


class SettledRate(msgspec.Struct, frozen=True, kw_only=True):
    """The rate after the trial, as it may be printed, and what goes with it.

    Attributes:
        refutation: What a trial showed against every rate that it ran, if none passed.
        base_failed: The user's own pair did not train.
        is_too_short: The trial ended before it could show anything for or against a rate.
        beats_base: The advised pair shows that the base rate is too low.
        is_ranged: The rate comes from a range test, since no base rate is known.
    """

    learning_rate: LearningRate
    changes: OptimizerChanges = OptimizerChanges()
    refutation: str | None = None
    base_failed: bool = False
    is_too_short: bool = False
    beats_base: bool = False
    is_ranged: bool = False


def needs_range(facts: WorkloadFacts) -> bool:
    """Return whether the optimizer has a rate, but none that a rule could scale.

    The rate of the AdamW that stands in was tuned for no batch at all.
    """
    optimizer = facts.optimizer
    if optimizer is None or optimizer.learning_rate is None:
        return False
    has_rate = optimizer.learning_rate > 0.0 and not optimizer.is_default
    return not has_rate or facts.base_batch_size is None


def settle_rate(
    facts: WorkloadFacts, global_batch_size: int, noise: Estimate | None, tried: Tried
) -> SettledRate:
    """Return the rule's rate at a batch with the value that the trials allow."""
    proposed, changes = plan_pair(facts, global_batch_size, noise)
    base_rate, base, batch = proposed.base_value, tried.base, tried.batches.get(global_batch_size)
    is_base = global_batch_size == proposed.base_batch_size
    if proposed.proposed is None or base_rate is None:
        return SettledRate(learning_rate=proposed, changes=changes)
    if batch is None:
        reason = _explain_no_trial(facts)
        if is_base:
            reason += "; at its own batch the base rate needs no scaling"
        return SettledRate(learning_rate=_explain(proposed, reason), changes=changes)
    if is_base and base is not None and not base.passed:
        settled = _refute(proposed, {base_rate: base})
    else:
        settled = _settle_tried(proposed, batch.verdicts, batch.best_rate)
    if is_base and base is not None and is_same(settled.learning_rate.value, base_rate):
        reason = f"the advised batch is the base batch, where the base rate stands; {base.reason}"
        rate = _explain(settled.learning_rate, reason)
        settled = msgspec.structs.replace(settled, learning_rate=rate)
    return settled if settled.refutation else msgspec.structs.replace(settled, changes=changes)


def settle_ranged_rate(
    facts: WorkloadFacts,
    curves: Sequence[LrRangeCurve],
    trials: Sequence[TrialBranch],
    global_batch_size: int,
    *,
    is_asked: bool = False,
) -> SettledRate:
    """Return the rate that the range test suggests and the trials at that batch confirm.

    Args:
        facts: The workload; the optimizer's own rate is only told.
        curves: Of the range test; those at other batches do not count.
        trials: Likewise.
        global_batch_size: The advised batch.
        is_asked: Whether the user asked for the test; else the reason says why it was run.
    """
    optimizer = facts.optimizer
    own = [curve for curve in curves if curve.global_batch_size == global_batch_size]
    found = conclude_lr_range(own) or LrRangeConclusion(
        status="inconclusive",
        reason="no curve was run before the end" if is_asked else _explain_no_trial(facts),
    )
    proposed = LearningRate(
        rule=f"range test at batch {global_batch_size} (Smith 2017)",
        base_value=None if optimizer is None else optimizer.learning_rate,
        base_batch_size=None,
        proposed=found.suggested,
        low=found.low,
        high=found.high,
        reason=f"the suggested rate was not tried, and {NOT_RUN}",
    )
    tried = group_tried(trials, global_batch_size, OptimizerChanges())
    settled = SettledRate(learning_rate=proposed)
    if found.suggested is None:
        reason = f"the range test: {found.reason}" if own else found.reason
        settled = SettledRate(learning_rate=_explain(proposed, reason))
    elif tried:
        settled = _settle_alone(proposed, tried, found.fall)
    rate = settled.learning_rate
    if not is_asked and optimizer is not None:
        rate = _explain(rate, f"{_explain_range(optimizer)}; {rate.reason}")
    return msgspec.structs.replace(settled, learning_rate=rate, is_ranged=True)


def _explain_no_trial(facts: WorkloadFacts) -> str:
    obstacle = "it was not tried before the run ended"
    if facts.is_step_only:
        obstacle = "make_step leaves nothing to try a rate with"
    elif not facts.has_dataset:
        obstacle = "there is no make_dataset to try it on"
    return f"{obstacle}, and {NOT_RUN}"


def _explain_range(optimizer: OptimizerFacts) -> str:
    """Return why there is no base rate to scale, without a full stop."""
    if optimizer.is_default:
        return f"the model file has no make_optimizer, so {optimizer.name} has no base rate"
    if not optimizer.learning_rate:
        return f"the rate of {optimizer.name} is 0, as at the start of a warm-up"
    return (
        "the batch that the base rate was tuned for is not known (set BASE_BATCH_SIZE in the model "
        "file, or give --base-batch-size), so a range test takes the rule's place"
    )


def _settle_alone(
    proposed: LearningRate, tried: Mapping[float, Sequence[TrialBranch]], fall: float
) -> SettledRate:
    verdicts = {rate: judge_alone(tried[rate], fall=fall) for rate in tried}
    conclusive = {rate: each for rate, each in verdicts.items() if not each.is_too_short}
    if conclusive:
        return _settle_tried(proposed, conclusive, choose_best_rate(conclusive))
    reason = f"the trial was cut short, and {NOT_RUN} from every start"
    return SettledRate(learning_rate=_explain(proposed, reason), is_too_short=True)


def _settle_tried(
    proposed: LearningRate, verdicts: Mapping[float, TrialVerdict], value: float | None
) -> SettledRate:
    """Return the best rate that passed, None where none did, and whether it moved the proposal."""
    if value is None:
        return _refute(proposed, verdicts)
    reason = verdicts[value].reason
    failed = [rate for rate in verdicts if rate > value and not verdicts[rate].passed]
    if failed:
        reason += f"; at {min(failed):.3g} it {verdicts[min(failed)].reason}"
    assert proposed.proposed is not None
    is_moved = not is_same(value, proposed.proposed)
    rate = msgspec.structs.replace(
        proposed,
        value=value,
        reason=reason,
        capped_by="trial" if is_moved and value < proposed.proposed else None,
        raised_by="trial" if is_moved and value > proposed.proposed else None,
    )
    return SettledRate(learning_rate=rate, beats_base=verdicts[value].beats_base)


def _refute(proposed: LearningRate, verdicts: Mapping[float, TrialVerdict]) -> SettledRate:
    """Return the proposal without a value, and what the trial showed against it, if anything."""
    low, high = min(verdicts), max(verdicts)
    verdict, reason = verdicts[low], verdicts[low].reason
    if verdict.is_too_short:
        subject = f"the rate {low:.3g} " if reason.startswith("was run") else ""
        reason = f"the trial was cut short: {subject}{reason}"
        return SettledRate(learning_rate=_explain(proposed, reason), is_too_short=True)
    if not verdict.base_failed:
        span = " to ".join(dict.fromkeys((f"{high:.3g}", f"{low:.3g}")))
        reason = f"none of the rates tried ({span}) trained; the lowest {reason}"
    return SettledRate(
        learning_rate=_explain(proposed, reason),
        refutation=reason,
        base_failed=verdict.base_failed,
    )


def _explain(rate: LearningRate, reason: str) -> LearningRate:
    return msgspec.structs.replace(rate, reason=reason)


def _conclude_rate(conclusions: Conclusions) -> LearningRate | None:
    """Return what `lr-range` may advise: a rate that trained at its batch from fresh starts."""
    record = conclusions.record
    plan, curves = record.get(RANGE), record.all(LR_RANGES)
    size = None if plan is None else plan.global_batch_size
    size = curves[-1].global_batch_size if curves else size
    if record.workload is None or size is None:
        return None
    trials = record.all(TRIALS)
    return settle_ranged_rate(record.workload, curves, trials, size, is_asked=True).learning_rate


LR_RANGE = Topic(
    "lr_range",
    LrRangeConclusion,
    lambda conclusions: conclude_lr_range(conclusions.record.all(LR_RANGES)),
)
LEARNING_RATE = Topic("learning_rate", LearningRate, _conclude_rate)
