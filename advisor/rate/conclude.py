"""The rate that a range test suggests and trials at its batch confirm, without a base pair.

rate   η/2   η/√2   η   √2η   2η      η: what the range test suggests
                    1    2     3      it passes: climb while the loss gets lower
        3      2    1                 it fails: step down until one passes, and once more
"""

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from advisor.engine.record import Conclusions, Topic
from advisor.rate.curves import average_curves, find_samples_to, group_pairs, has_diverged
from advisor.rate.data import TRIALS, Evaluation, LearningRate, TrialBranch
from advisor.rate.range_data import LR_RANGES, RANGE, LrRangeConclusion, LrRangeCurve
from advisor.rate.range_test import conclude_lr_range
from advisor.rate.rules import NOT_RUN
from advisor.training.data import OptimizerFacts, WorkloadFacts

#: Each rate over the next lower one: fine enough that the best rate is missed by 19 % at most.
RATE_STEP = math.sqrt(2.0)
#: Most steps to either side: a factor of 5.7 down, of 16 up.
_MOST_STEPS_DOWN, _MOST_STEPS_UP = 5, 8
#: Fewest starts: below, one lucky start would decide.
LEAST_SEEDS = 3
#: Share of the range test's fall, and of the median fall of the starts, that each must reach.
LEAST_FALL_FRACTION, STALL_FRACTION = 0.1, 0.5
#: Share of its own fall by which a start may end above its lowest loss.
RISE_FRACTION = 0.25
#: Share of the samples by which an equally good rate may lag; the same at the edge to failing.
EQUAL_LAG_FRACTION, EDGE_LAG_FRACTION = 0.05, 0.1
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
    value, reason = None, f"the suggested rate was not tried, and {NOT_RUN}"
    if found.suggested is None:
        reason = f"the range test: {found.reason}" if own else found.reason
        if not is_asked and _OPTIONS.search(reason):
            reason += ", as options of bsadvisor lr-range"
    else:
        value, tried = _choose_tried(trials, global_batch_size, found.fall)
        reason = tried or reason
    if not is_asked and optimizer is not None:
        reason = f"{_explain_range(optimizer)}; {reason}"
    rate = LearningRate(
        rule=f"range test at batch {global_batch_size} (Smith 2017)",
        base_value=None if optimizer is None else optimizer.learning_rate,
        base_batch_size=None,
        proposed=found.suggested,
        low=found.low,
        high=found.high,
    )
    return rate.settle(value, reason)


def _choose_tried(
    trials: Sequence[TrialBranch], global_batch_size: int, fall: float
) -> tuple[float | None, str]:
    """Return the best rate that passed, if any did, and why; empty where none was tried."""
    own = (each for each in trials if each.seed >= FIRST_TRIAL_SEED)
    judged = {
        tried: judge_alone(branches, fall=fall)
        for (size, tried), branches in group_pairs(own).items()
        if size == global_batch_size
    }
    verdicts = {each: verdict for each, verdict in judged.items() if not verdict.is_too_short}
    value = choose_best_rate(verdicts)
    if value is not None:
        failed = [each for each in verdicts if each > value and not verdicts[each].passed]
        end = f"; at {min(failed):.3g} it {verdicts[min(failed)].reason}" if failed else ""
        return value, verdicts[value].reason + end
    if verdicts:
        lowest = min(verdicts)
        span = " to ".join(dict.fromkeys(f"{each:.3g}" for each in (max(verdicts), lowest)))
        low = verdicts[lowest].reason
        return None, f"none of the rates tried ({span}) trained; the lowest {low}"
    return None, f"the trial was cut short, and {NOT_RUN} from every start" if judged else ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a rate trains, and why: one sentence without its full stop."""

    passed: bool = False
    reason: str
    #: The trial ended before it could show anything.
    is_too_short: bool = False
    #: Of a rate that passed, the mean over starts.
    end_loss: float = math.inf
    curve: tuple[Evaluation, ...] = ()


def judge_alone(branches: Sequence[TrialBranch], *, fall: float) -> Verdict:
    """Return whether a rate trains: no start diverges, stalls or ends on its way up again.

    `fall` is how far the loss fell in the range test.
    """
    diverged = _refuse("diverged", map(has_diverged, branches))
    if diverged is not None:
        return diverged
    if len({branch.seed for branch in branches}) < LEAST_SEEDS:
        reason = f"was run from {len(branches)} starts only; {LEAST_SEEDS} are needed"
        return Verdict(is_too_short=True, reason=reason)
    falls = [branch.fall for branch in branches]
    least = max(LEAST_FALL_FRACTION * fall, STALL_FRACTION * statistics.median(falls))
    first = statistics.fmean(branch.first_loss for branch in branches)
    end = statistics.fmean(branch.end.loss for branch in branches)
    passed = Verdict(
        passed=True,
        reason=f"trained from {len(branches)} fresh starts: loss {end:.3g} from {first:.3g}",
        end_loss=end,
        curve=average_curves(branches),
    )
    risen = (
        branch.end.loss - min(each.loss for each in branch.evaluations)
        > RISE_FRACTION * branch.fall
        for branch in branches
    )
    return (
        _refuse("stalled", (each < least or each <= 0.0 for each in falls))
        or _refuse("ended on a rising loss", risen)
        or passed
    )


def _refuse(what: str, failed: Iterable[bool]) -> Verdict | None:
    each = list(failed)
    return Verdict(reason=f"{what} from {sum(each)} of {len(each)} starts") if any(each) else None


def choose_next_rate(suggested: float, tried: Mapping[float, Verdict]) -> float | None:
    """Return the rate to try next: the suggested one, then its neighbours towards the best.

    None once the best rate's neighbours were tried, or once there is no lower one.
    """
    # By steps from the suggested rate, to rates that were stored and read again.
    places = {
        round(math.log(rate / suggested) / math.log(RATE_STEP)): verdict
        for rate, verdict in tried.items()
    }
    passed = {place: each for place, each in places.items() if each.passed}
    candidates = [0]
    if places and not passed:
        candidates = [min(places) - 1]
    elif places:
        best = min(passed, key=lambda place: (passed[place].end_loss, abs(place)))
        refused = min(places.keys() - passed.keys(), default=math.inf)
        candidates = [place for place in (best + 1, best - 1) if place < refused]
    for place in candidates:
        if place not in places and -_MOST_STEPS_DOWN <= place <= _MOST_STEPS_UP:
            return float(suggested * RATE_STEP**place)
    return None


def choose_best_rate(verdicts: Mapping[float, Verdict]) -> float | None:
    """Return the rate that trains best, or a lower one about as good, further off the edge."""
    passed = {rate: verdict for rate, verdict in verdicts.items() if verdict.passed}
    if not passed:
        return None
    best = min(passed, key=lambda rate: (passed[rate].end_loss, rate))
    higher = min((rate for rate in verdicts if rate > best), default=best)
    most = EQUAL_LAG_FRACTION if verdicts[higher].passed else EDGE_LAG_FRACTION
    lower = max((rate for rate in passed if rate < best), default=best)
    reached = find_samples_to(passed[best].curve, passed[lower].end_loss)
    lag = 1.0 if reached is None else 1.0 - reached / passed[best].curve[-1].samples
    return lower if lag <= most else best


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
