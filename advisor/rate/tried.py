"""What the trials of a run show: which rates train at each batch, and how soon each gets there.

All pairs start from the same weights and aim at one loss, the one that the user's own pair ends on.
The time to it is the pair's steps to it times the measured seconds of its step.
"""

import math
from collections.abc import Mapping, Sequence

import msgspec

from advisor.rate.best_rate import choose_best_rate, rank_rate
from advisor.rate.data import LearningRate, OptimizerChanges, TrialBranch
from advisor.rate.optimizer_changes import propose_optimizer_changes
from advisor.rate.rules import propose_learning_rate
from advisor.rate.trial import TrialVerdict, judge_base, judge_trial
from advisor.rate.trial_curves import find_samples_to
from advisor.statistics import Estimate
from advisor.throughput.data import ThroughputConclusion
from advisor.throughput.step_time import estimate_step_s, read_throughput
from advisor.training.data import WorkloadFacts

#: Rates and settings closer than this, relatively, are the same: they were stored and read again.
_SAME = 1e-9


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


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """All trials of a run.

    Attributes:
        base: Whether the user's own pair trains; None where it was not run.
        base_batch_size: Of that pair.
        base_time_s: Its time to its own end loss; None where unknown.
        target_loss: That loss; None where the base pair does not train.
        batches: By global batch.
    """

    base: TrialVerdict | None = None
    base_batch_size: int | None = None
    base_time_s: float | None = None
    target_loss: float | None = None
    batches: Mapping[int, TriedBatch] = {}

    def compare_time(self, global_batch_size: int) -> float | None:
        """Return the time of a batch's best rate over that of the base pair.

        None where it did not get to the base pair's end loss, or where a time is not known.
        """
        if global_batch_size == self.base_batch_size and global_batch_size not in self.batches:
            return None if self.base_time_s is None else 1.0
        batch = self.batches.get(global_batch_size)
        if batch is None or not batch.is_reached or batch.time_s is None or not self.base_time_s:
            return None
        return batch.time_s / self.base_time_s

    @property
    def times_s(self) -> dict[int, float | None]:
        """Seconds to the target loss by batch, the base's included; None where no rate passed.

        A batch whose trial was cut short is not in it.
        """
        times = {
            size: each.time_s
            for size, each in self.batches.items()
            if not all(verdict.is_too_short for verdict in each.verdicts.values())
        }
        if self.base_batch_size is not None and self.base_time_s is not None:
            times.setdefault(self.base_batch_size, self.base_time_s)
        return times


def plan_pair(
    facts: WorkloadFacts, global_batch_size: int, noise: Estimate | None
) -> tuple[LearningRate, OptimizerChanges]:
    """Return the rule's rate for a batch and the other settings that go with it.

    Args:
        facts: The workload.
        global_batch_size: Samples of each optimizer step.
        noise: φ in samples; None where nothing positive is known of it.
    """
    proposed = propose_learning_rate(
        facts.optimizer,
        base_batch_size=facts.base_batch_size,
        global_batch_size=global_batch_size,
        noise=noise,
        loss_is_sum=facts.loss_reduction == "sum",
    )
    return proposed, propose_optimizer_changes(facts.optimizer, proposed, global_batch_size)


def conclude_trials(
    facts: WorkloadFacts,
    trials: Sequence[TrialBranch],
    throughput: ThroughputConclusion,
    noise: Estimate | None,
) -> Tried:
    """Return what the trials show; nothing where there is no base pair to compare with.

    Args:
        facts: The workload.
        trials: All branches of the run.
        throughput: The measured step times.
        noise: As in `plan_pair`.
    """
    optimizer, base_size = facts.optimizer, facts.base_batch_size
    if optimizer is None or optimizer.learning_rate is None or base_size is None:
        return Tried()
    own = group_tried(trials, base_size, OptimizerChanges())
    base = next((own[rate] for rate in own if is_same(rate, optimizer.learning_rate)), None)
    if base is None:
        return Tried(base_batch_size=base_size)
    verdict = judge_base(base)
    target_loss = verdict.curve[-1].loss if verdict.passed else None
    step_s = _estimate_step_s(base, throughput)
    base_time_s = None
    if verdict.passed and step_s is not None:
        base_time_s = rank_rate(verdict, target_loss)[0] / base_size * step_s
    noise_scale = None if noise is None else noise.point
    batches = {}
    for size in dict.fromkeys(branch.global_batch_size for branch in trials):
        groups = group_tried(trials, size, plan_pair(facts, size, noise)[1])
        if not groups:
            continue
        verdicts = _bar_higher_rates(
            {rate: judge_trial(base, groups[rate], noise_scale) for rate in groups}
        )
        batches[size] = _conclude_batch(groups, verdicts, target_loss, throughput)
    return Tried(
        base=verdict,
        base_batch_size=base_size,
        base_time_s=base_time_s,
        target_loss=target_loss,
        batches=batches,
    )


def _bar_higher_rates(verdicts: Mapping[float, TrialVerdict]) -> dict[float, TrialVerdict]:
    """Return the verdicts, where no rate passes above one that failed from a further start.

    The lower of two rates that are about as good is preferred: if it then fails from a start that
    the higher one was not trained from, the higher one must not take its place.
    """
    edge = min((rate for rate in verdicts if verdicts[rate].fails_further), default=math.inf)
    return {
        rate: TrialVerdict(
            passed=False, reason=f"is above {edge:.3g}, which {verdicts[edge].reason}"
        )
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
    if best is None or target_loss is None:
        return TriedBatch(
            verdicts=verdicts,
            best_rate=best,
            time_s=None,
            is_reached=False,
            ranking_loss=ranking_loss,
        )
    step_s = _estimate_step_s(groups[best], throughput)
    samples, _ = rank_rate(verdicts[best], target_loss)
    size = groups[best][0].global_batch_size
    return TriedBatch(
        verdicts=verdicts,
        best_rate=best,
        time_s=None if step_s is None else samples / size * step_s,
        is_reached=find_samples_to(verdicts[best].curve, target_loss) is not None,
        ranking_loss=ranking_loss,
    )


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


def _estimate_step_s(
    branches: Sequence[TrialBranch], throughput: ThroughputConclusion
) -> float | None:
    first = branches[0]
    return estimate_step_s(
        read_throughput(throughput),
        first.micro_batch_size,
        first.gradient_accumulation_steps,
        may_extrapolate=False,
    )


def is_same(one: float | None, other: float | None) -> bool:
    """Return whether two rates or settings, either of which may be None, are the same."""
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=_SAME)
