"""The rate that a range test suggests and trials at its batch confirm."""

import re
from collections.abc import Sequence

from msgspec.structs import replace

from advisor.engine.conclusions import Conclusions, Topic
from advisor.rate.alone import choose_best_rate, judge_alone
from advisor.rate.curves import group_pairs
from advisor.rate.data import TRIALS, LearningRate, TrialBranch
from advisor.rate.range_data import LR_RANGES, RANGE, LrRangeConclusion, LrRangeCurve
from advisor.rate.range_test import conclude_lr_range
from advisor.rate.rules import NOT_RUN
from advisor.training.data import OptimizerFacts, WorkloadFacts

#: The first start of the trials that confirm a range test's rate; no other trial has them.
FIRST_TRIAL_SEED = 1000


def needs_range(facts: WorkloadFacts) -> bool:
    """Return whether the optimizer has a rate, but none that a rule could scale."""
    optimizer = facts.optimizer
    if optimizer is None or optimizer.learning_rate is None:
        return False
    return optimizer.is_default or facts.base_batch_size is None or not optimizer.learning_rate


#: What a range test is told by, which is run for the race without being asked.
_OPTIONS = re.compile("--(from|to|steps)\\b")


def settle_ranged_rate(
    facts: WorkloadFacts,
    curves: Sequence[LrRangeCurve],
    trials: Sequence[TrialBranch],
    global_batch_size: int,
    *,
    is_asked: bool = False,
) -> LearningRate:
    """Return the rate that the range test suggests and its own trials at that batch confirm.

    The reason says why the test was run, unless the user asked for it.
    """
    optimizer = facts.optimizer
    own = [curve for curve in curves if curve.global_batch_size == global_batch_size]
    found = conclude_lr_range(own) or LrRangeConclusion(
        status="inconclusive", reason="no curve was run before the end"
    )
    rate = LearningRate(
        rule=f"range test at batch {global_batch_size} (Smith 2017)",
        base_value=None if optimizer is None else optimizer.learning_rate,
        base_batch_size=None,
        proposed=found.suggested,
        low=found.low,
        high=found.high,
        reason=f"the suggested rate was not tried, and {NOT_RUN}",
    )
    if found.suggested is None:
        reason = f"the range test: {found.reason}" if own else found.reason
        if not is_asked and _OPTIONS.search(reason):
            reason += ", as options of bsadvisor lr-range"
        rate = replace(rate, reason=reason)
    else:
        rate = _settle(rate, trials, global_batch_size, found.fall)
    if not is_asked and optimizer is not None:
        rate = replace(rate, reason=f"{_explain_range(optimizer)}; {rate.reason}")
    return rate


def _settle(
    rate: LearningRate, trials: Sequence[TrialBranch], global_batch_size: int, fall: float
) -> LearningRate:
    """Return the best rate that passed, without a value where none did, and why."""
    own = (each for each in trials if each.seed >= FIRST_TRIAL_SEED)
    all_verdicts = {
        tried: judge_alone(branches, fall=fall)
        for (size, tried), branches in group_pairs(own).items()
        if size == global_batch_size
    }
    verdicts = {each: verdict for each, verdict in all_verdicts.items() if not verdict.is_too_short}
    value, reason = choose_best_rate(verdicts), rate.reason
    if value is not None:
        reason = verdicts[value].reason
        failed = [each for each in verdicts if each > value and not verdicts[each].passed]
        if failed:
            reason += f"; at {min(failed):.3g} it {verdicts[min(failed)].reason}"
    elif verdicts:
        low, span = min(verdicts), dict.fromkeys(f"{e:.3g}" for e in (max(verdicts), min(verdicts)))
        reason = f"none of the rates tried ({' to '.join(span)}) trained; the lowest "
        reason += verdicts[low].reason
    elif all_verdicts:
        reason = f"the trial was cut short, and {NOT_RUN} from every start"
    return rate.settle(value, reason)


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


def _conclude_rate(conclusions: Conclusions) -> LearningRate | None:
    """Return what `lr-range` may advise: a rate that trained at its batch from fresh starts."""
    record = conclusions.record
    plan, curves = record.get(RANGE), record.all(LR_RANGES)
    size = None if plan is None else plan.global_batch_size
    size = curves[-1].global_batch_size if curves else size
    if record.workload is None or size is None:
        return None
    trials = record.all(TRIALS)
    return settle_ranged_rate(record.workload, curves, trials, size, is_asked=True)


LR_RANGE = Topic(
    "lr_range",
    LrRangeConclusion,
    lambda conclusions: conclude_lr_range(conclusions.record.all(LR_RANGES)),
)
LEARNING_RATE = Topic("learning_rate", LearningRate, _conclude_rate)
