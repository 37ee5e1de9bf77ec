"""The learning rate where no base rate is known: by a range test, once a trial has confirmed it."""

from collections.abc import Sequence

import msgspec

from advisor.rate.best_rate import choose_best_rate
from advisor.rate.conclude import SettledRate, settle_tried
from advisor.rate.data import (
    DerivedLrRange,
    LearningRate,
    LrRangeCurve,
    OptimizerChanges,
    TrialBranch,
)
from advisor.rate.range_record import LrRangeRecord
from advisor.rate.range_test import conclude_lr_range
from advisor.rate.trial import TrialVerdict, judge_alone
from advisor.rate.tried import group_tried
from advisor.training.data import OptimizerFacts, WorkloadFacts

_NOT_RUN = "no rate is printed that has not been run"


def needs_range(facts: WorkloadFacts) -> bool:
    """Return whether the optimizer has a rate, but none that a rule could scale.

    The rate of the AdamW that stands in was tuned for no batch at all.
    """
    optimizer = facts.optimizer
    if optimizer is None or not optimizer.learning_rate:
        return False
    return optimizer.is_default or facts.base_batch_size is None


def settle_ranged_rate(
    optimizer: OptimizerFacts,
    curves: Sequence[LrRangeCurve],
    trials: Sequence[TrialBranch],
    global_batch_size: int,
    *,
    obstacle: str,
    motive: str | None = None,
) -> SettledRate:
    """Return the rate that the range test suggests and the trials at that batch confirm.

    Args:
        optimizer: As it was built; its own rate is only told.
        curves: Of the range test; those at other batches do not count.
        trials: Likewise.
        global_batch_size: The advised batch.
        obstacle: Why there is no range test, where there is none; without a full stop.
        motive: Why there is one, likewise; None where the user asked for it.
    """
    own = [curve for curve in curves if curve.global_batch_size == global_batch_size]
    conclusion = conclude_lr_range(own)
    proposed = LearningRate(
        value=None,
        rule=f"range test at batch {global_batch_size} (Smith 2017)",
        base_value=optimizer.learning_rate,
        base_batch_size=None,
        proposed=None if conclusion is None else conclusion.suggested,
        low=None if conclusion is None else conclusion.low,
        high=None if conclusion is None else conclusion.high,
    )
    if conclusion is None or conclusion.suggested is None:
        reason = obstacle if conclusion is None else f"the range test: {conclusion.reason}"
        return _explain(proposed, reason, motive)
    tried = group_tried(trials, global_batch_size, OptimizerChanges())
    if not tried:
        return _explain(proposed, f"the suggested rate was not tried, and {_NOT_RUN}", motive)
    verdicts = {rate: judge_alone(tried[rate], fall=conclusion.fall) for rate in tried}
    return _settle(proposed, verdicts, motive)


def explain_range(optimizer: OptimizerFacts) -> str:
    """Return why there is no base rate to scale, without a full stop."""
    if optimizer.is_default:
        return f"the model file has no make_optimizer, so {optimizer.name} has no base rate"
    return (
        "the batch that the base rate was tuned for is not known (set BASE_BATCH_SIZE in the model "
        "file, or give --base-batch-size), so a range test takes the rule's place"
    )


def derive_lr_range(record: LrRangeRecord) -> DerivedLrRange:
    """Return every conclusion that the record of a range test supports so far."""
    facts, size = record.workload, record.command.global_batch_size
    if facts is None or facts.optimizer is None or size is None:
        return DerivedLrRange()
    settled = settle_ranged_rate(
        facts.optimizer,
        record.lr_ranges,
        record.trials,
        size,
        obstacle="no curve was run before the end",
    )
    return DerivedLrRange(
        lr_range=conclude_lr_range(record.lr_ranges), learning_rate=settled.learning_rate
    )


def _settle(
    proposed: LearningRate, verdicts: dict[float, TrialVerdict], motive: str | None
) -> SettledRate:
    conclusive = {rate: each for rate, each in verdicts.items() if not each.is_too_short}
    if not conclusive:
        reason = f"the trial was cut short, and {_NOT_RUN} from every start"
        settled = _explain(proposed, reason, motive)
        return msgspec.structs.replace(settled, is_too_short=True)
    settled = settle_tried(proposed, conclusive, choose_best_rate(conclusive))
    rate = settled.learning_rate
    return msgspec.structs.replace(
        settled,
        learning_rate=msgspec.structs.replace(rate, reason=_join(motive, rate.reason)),
        is_ranged=True,
    )


def _explain(proposed: LearningRate, reason: str, motive: str | None) -> SettledRate:
    rate = msgspec.structs.replace(proposed, reason=_join(motive, reason))
    return SettledRate(learning_rate=rate, is_ranged=True)


def _join(motive: str | None, reason: str) -> str:
    return reason if motive is None else f"{motive}; {reason}"
