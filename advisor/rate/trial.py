"""What the trials of a run show: which rates train at each batch, and how soon each gets there."""

import math
from collections.abc import Mapping, Sequence

import msgspec

from advisor.engine.conclusions import Conclusions, Topic
from advisor.noise.plan import NOISE
from advisor.rate.curves import find_samples_to
from advisor.rate.data import TRIALS, OptimizerChanges, TrialBranch
from advisor.rate.rules import plan_pair
from advisor.rate.verdict import TrialVerdict, judge_base, judge_trial
from advisor.throughput.conclude import THROUGHPUT
from advisor.throughput.data import ThroughputConclusion
from advisor.throughput.step_time import estimate_step_s, read_throughput

#: Rates and settings closer than this, relatively, are the same: they were stored and read again.
_SAME = 1e-9
#: Share of the samples by which a rate may lag behind the best one and count as equally good; and
#: the same where the best one is the last before rates fail.
EQUAL_LAG_FRACTION, EDGE_LAG_FRACTION = 0.05, 0.1


class TriedBatch(msgspec.Struct, frozen=True, kw_only=True):
    """The rates that were tried at one batch.

    Attributes:
        verdicts: By rate.
        best_rate: Of those that passed; None where none did.
        time_s: To the base pair's end loss at that rate, by the measured step time; of a rate that
            passed without reaching it, at its mean pace. None where unknown.
        is_reached: Whether it got there.
        ranking_loss: The loss that orders its rates by when they get to it; None where the loss
            after equal samples does.
    """

    verdicts: Mapping[float, TrialVerdict]
    best_rate: float | None
    time_s: float | None
    is_reached: bool
    ranking_loss: float | None

    def rank_rates(self) -> dict[float, tuple[float, float] | None]:
        """Return what orders the rates, the best first; None for those that failed."""
        return {
            rate: rank_rate(verdict, self.ranking_loss) if verdict.passed else None
            for rate, verdict in self.verdicts.items()
            if not verdict.is_too_short
        }


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """All trials of a run.

    Attributes:
        base: Whether the user's own pair trains; None where it was not run.
        base_time_s: Its time to its own end loss; None where unknown.
        batches: By global batch.
    """

    base: TrialVerdict | None = None
    base_batch_size: int | None = None
    base_time_s: float | None = None
    batches: Mapping[int, TriedBatch] = {}

    def compare_time(self, global_batch_size: int) -> float | None:
        """Return the time of a batch's best rate over that of the base pair.

        None where it did not get to the base pair's end loss, or where a time is not known.
        """
        batch = self.batches.get(global_batch_size)
        if batch is None and global_batch_size == self.base_batch_size:
            return None if self.base_time_s is None else 1.0
        if batch is None or not batch.is_reached or batch.time_s is None or not self.base_time_s:
            return None
        return batch.time_s / self.base_time_s

    @property
    def times_s(self) -> dict[int, float | None]:
        """Seconds to the target loss by batch, the base's included; None where no rate passed.

        A batch whose trial was cut short is not in it.
        """
        times = {size: each.time_s for size, each in self.batches.items() if each.rank_rates()}
        if self.base_batch_size is not None and self.base_time_s is not None:
            times.setdefault(self.base_batch_size, self.base_time_s)
        return times


def _conclude(conclusions: Conclusions) -> Tried | None:
    """Return what the trials show; nothing where there is no base pair to compare with."""
    facts, throughput = conclusions.record.workload, conclusions.of(THROUGHPUT)
    if facts is None or throughput is None:
        return None
    found, trials = conclusions.of(NOISE), conclusions.record.all(TRIALS)
    noise = None if found is None else found.decisive
    optimizer, base_size = facts.optimizer, facts.base_batch_size
    if optimizer is None or optimizer.learning_rate is None or base_size is None:
        return Tried()
    own = group_tried(trials, base_size, OptimizerChanges())
    base = next((own[rate] for rate in own if is_same(rate, optimizer.learning_rate)), None)
    if base is None:
        return Tried(base_batch_size=base_size)
    verdict = judge_base(base)
    target_loss = verdict.curve[-1].loss if verdict.passed else None
    base_time_s = None
    if target_loss is not None:
        base_time_s = _find_time_s(base[0], rank_rate(verdict, target_loss)[0], throughput)
    noise_scale = None if noise is None else noise.point
    batches = {}
    for size in dict.fromkeys(branch.global_batch_size for branch in trials):
        groups = group_tried(trials, size, plan_pair(facts, size, noise)[1])
        if groups:
            verdicts = {rate: judge_trial(base, groups[rate], noise_scale) for rate in groups}
            batches[size] = _conclude_batch(
                groups, _bar_higher_rates(verdicts), target_loss, throughput
            )
    return Tried(base=verdict, base_batch_size=base_size, base_time_s=base_time_s, batches=batches)


def _bar_higher_rates(verdicts: Mapping[float, TrialVerdict]) -> dict[float, TrialVerdict]:
    """Return the verdicts, where no rate passes above one that failed from a further start.

    The lower of two rates that are about as good is preferred: if it then fails from a start that
    the higher one was not trained from, the higher one must not take its place.
    """
    edge = min((rate for rate in verdicts if verdicts[rate].fails_further), default=math.inf)
    return {
        rate: TrialVerdict(reason=f"is above {edge:.3g}, which {verdicts[edge].reason}")
        if verdict.passed and rate > edge
        else verdict
        for rate, verdict in verdicts.items()
    }


def _conclude_batch(
    groups: Mapping[float, Sequence[TrialBranch]],
    verdicts: Mapping[float, TrialVerdict],
    target_loss: float | None,
    throughput: ThroughputConclusion,
) -> TriedBatch:
    # Where the base rate is far too low its end comes early, and says little of a whole training.
    is_base_low = any(verdict.beats_base for verdict in verdicts.values())
    ranking_loss = None if is_base_low else target_loss
    best = choose_best_rate(verdicts, ranking_loss)
    time_s, is_reached = None, False
    if best is not None and target_loss is not None:
        samples, _ = rank_rate(verdicts[best], target_loss)
        time_s = _find_time_s(groups[best][0], samples, throughput)
        is_reached = find_samples_to(verdicts[best].curve, target_loss) is not None
    return TriedBatch(
        verdicts=verdicts,
        best_rate=best,
        time_s=time_s,
        is_reached=is_reached,
        ranking_loss=ranking_loss,
    )


def _find_time_s(
    branch: TrialBranch, samples: float, throughput: ThroughputConclusion
) -> float | None:
    """Return the seconds for so many samples in steps as the branch's; None where not timed."""
    step_s = estimate_step_s(
        read_throughput(throughput),
        branch.micro_batch_size,
        branch.gradient_accumulation_steps,
        may_extrapolate=False,
    )
    return None if step_s is None else samples / branch.global_batch_size * step_s


def group_tried(
    trials: Sequence[TrialBranch], global_batch_size: int, changes: OptimizerChanges
) -> dict[float, list[TrialBranch]]:
    """Return the branches of one batch with these settings, by rate."""
    groups: dict[float, list[TrialBranch]] = {}
    for branch in trials:
        if (
            branch.global_batch_size == global_batch_size
            and is_same(branch.beta2, changes.beta2)
            and is_same(branch.weight_decay, changes.weight_decay)
        ):
            near = (rate for rate in groups if is_same(rate, branch.learning_rate))
            groups.setdefault(next(near, branch.learning_rate), []).append(branch)
    return groups


def is_same(one: float | None, other: float | None) -> bool:
    """Return whether two rates or settings, either of which may be None, are the same."""
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=_SAME)


def rank_rate(verdict: TrialVerdict, target_loss: float | None) -> tuple[float, float]:
    """Return what orders the rates of one batch that passed, the best first.

    The samples to the target loss, at its mean pace for a rate that does not reach it. Without a
    target, where all ran over the same samples, the loss at the end decides.
    """
    assert verdict.end_loss is not None
    end = verdict.curve[-1]
    if target_loss is None:
        return float(end.samples), verdict.end_loss
    reached = find_samples_to(verdict.curve, target_loss)
    if reached is None:
        levels = [verdict.curve[0].loss, end.loss, target_loss]
        first, last, target = map(math.log, levels) if min(levels) > 0.0 else levels
        reached = end.samples * (first - target) / max(first - last, 1e-12)
    return reached, verdict.end_loss


def choose_best_rate(
    verdicts: Mapping[float, TrialVerdict], target_loss: float | None = None
) -> float | None:
    """Return the rate that trains best, or a lower one about as good; None where none passed.

    A few starts do not show the edge of stability to within a step; the lower rate is further off.
    """
    passed = {rate: verdict for rate, verdict in verdicts.items() if verdict.passed}
    if not passed:
        return None
    best = min(passed, key=lambda rate: (*rank_rate(passed[rate], target_loss), rate))
    higher = min((rate for rate in verdicts if rate > best), default=best)
    most = EQUAL_LAG_FRACTION if verdicts[higher].passed else EDGE_LAG_FRACTION
    lower = max((rate for rate in passed if rate < best), default=best)
    return lower if _measure_lag(passed[best], passed[lower], target_loss) <= most else best


def _measure_lag(best: TrialVerdict, lower: TrialVerdict, target_loss: float | None) -> float:
    """Return how many of its samples the lower rate takes more than the best one, as a share.

    To the target; where one of them does not reach it, to the lower rate's own end.
    """
    assert lower.end_loss is not None
    if target_loss is not None:
        first = find_samples_to(best.curve, target_loss)
        second = find_samples_to(lower.curve, target_loss)
        if first is not None:
            return math.inf if second is None else 1.0 - first / second if second else 0.0
    reached = find_samples_to(best.curve, lower.end_loss)
    return 1.0 if reached is None else 1.0 - reached / best.curve[-1].samples


TRIED = Topic("tried", Tried, _conclude)
