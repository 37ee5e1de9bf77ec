"""What is asked of learning rates, what was seen of them, and what follows: the types."""

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import msgspec

from advisor.engine.record import Series, Slot
from advisor.engine.task import WorkloadTask
from advisor.figures import Count, Figure, Fraction, Size, Weight

T = TypeVar("T")

#: Evaluations along a branch: enough to compare curves of different batches at equal samples.
TRIAL_EVALUATIONS = 24
#: Those at the end of a branch whose mean is its result: one alone may be a lucky dip.
TAIL_EVALUATIONS = 3
#: Share by which a rate differs from the proposed one where the trial is said to have moved it.
_LEAST_MOVE = 0.01


class LearningRate(msgspec.Struct, frozen=True, kw_only=True):
    """The advised rate."""

    #: A rate that was tried; None where none can be advised.
    value: float | None = None
    rule: str
    base_value: float | None
    base_batch_size: int | None
    #: What the rule alone gives, and over the noise interval.
    proposed: float | None = None
    low: float | None = None
    high: float | None = None
    capped_by: Literal["trial"] | None = None
    raised_by: Literal["trial"] | None = None
    #: Why the value is what it is, or why there is none; without a full stop.
    reason: str = ""

    def settle(self, value: float | None, reason: str) -> "LearningRate":
        """Return the rate with what the trial made of it: a value that was tried, and why."""
        ratio = value / self.proposed if value is not None and self.proposed else 1.0
        return msgspec.structs.replace(
            self,
            value=value,
            reason=reason,
            capped_by="trial" if ratio < 1.0 - _LEAST_MOVE else None,
            raised_by="trial" if ratio > 1.0 + _LEAST_MOVE else None,
        )


class OptimizerChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Other settings that go with the batch; None means: leave as it is."""

    beta2: float | None = None
    weight_decay: float | None = None
    #: The least length of a warm-up, for a training that has one.
    warmup_steps: int | None = None


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One way to make an optimizer step."""

    global_batch_size: int
    micro_batch_size: int
    gradient_accumulation_steps: int
    #: In the user's loop.
    step_s: float
    #: By the law: time to train over the base batch's, and samples over the smallest batch's.
    relative_time: float | None = None
    relative_samples: float | None = None

    @property
    def sample_s(self) -> float:
        """Seconds for each sample."""
        return self.step_s / self.global_batch_size


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Mean loss on the fixed evaluation samples after `samples` training samples."""

    samples: Count
    loss: Figure


class TrialBranch(msgspec.Struct, frozen=True, kw_only=True):
    """One short training run at one batch and rate."""

    micro_batch_size: Size
    gradient_accumulation_steps: Size
    global_batch_size: Size
    learning_rate: Figure
    seed: int
    samples: Count
    #: Losses along the branch, the first before training; they end early on divergence.
    evaluations: tuple[Evaluation, ...]
    #: Whether a loss was not finite.
    diverged: bool
    beta2: Fraction | None = None
    weight_decay: Figure | None = None
    #: Samples after which the rate falls, 0 where the user's own schedule was followed; None where
    #: it never did.
    decays_from: Count | None = None
    #: Steps into which a script's warm-up was compressed; None where it has none.
    warmup_steps: Count | None = None
    #: Standard deviation of a step's loss, where evaluations are means over training's own batches;
    #: 0 where they are over samples fixed for all.
    deviation: Figure = 0.0

    @property
    def first_loss(self) -> float:
        """Loss before training; NaN where it was not finite."""
        return self.evaluations[0].loss if self.evaluations else math.nan

    @property
    def end(self) -> Evaluation:
        """Mean of the last evaluations, the first one of all left out."""
        tail = self.evaluations[1:][-TAIL_EVALUATIONS:] or self.evaluations
        if not tail:
            return Evaluation(samples=0, loss=math.nan)
        return Evaluation(
            samples=round(statistics.fmean(each.samples for each in tail)),
            loss=statistics.fmean(each.loss for each in tail),
        )

    @property
    def fall(self) -> float:
        """From the loss before training to that at the end."""
        return self.first_loss - self.end.loss


class BranchTask(WorkloadTask[T], Generic[T], frozen=True, kw_only=True):
    """Train at one batch, once from each seed: it fixes the start and the order of the data."""

    micro_batch_size: int
    gradient_accumulation_steps: int
    seeds: tuple[int, ...]
    #: Whether the loss sums over its batch; accumulated losses are then not averaged.
    loss_is_sum: bool = False
    #: No further branch, or step of a range test, is started after this long.
    budget_s: float = 60.0

    @property
    def global_batch_size(self) -> int:
        """Samples of one optimizer step."""
        return self.micro_batch_size * self.gradient_accumulation_steps

    def list_starts(self) -> Iterator[Self]:
        """Yield the tasks that processes run: of a script each branch is a start of its own."""
        if self.workload.script is None:
            yield self
            return
        for seed in self.seeds:
            yield from msgspec.structs.replace(self, seeds=(seed,)).list_branches()

    def list_branches(self) -> Sequence[Self]:
        """Return a task for each branch from one seed."""
        return (self,)


class TrialTask(BranchTask[TrialBranch], frozen=True, kw_only=True):
    """Train short branches at one batch and rate."""

    runs: ClassVar[str] = "advisor.rate.measure:run"
    runs_script: ClassVar[str] = "advisor.rate.measure_script:run"
    merges_ranks: ClassVar[str] = "advisor.rate.curves:average_ranks"

    #: Of the first parameter group; others keep their ratio to it.
    learning_rate: float
    #: In place of Adam's own; likewise the weight decay.
    beta2: float | None = None
    weight_decay: float | None = None
    #: That each branch consumes.
    samples: int
    #: Of further, shorter branches from each start.
    shorter_samples: tuple[int, ...] = ()
    #: Last share of them over which the rate falls to 0; above 0, the user's own schedule comes
    #: before it, compressed to the branch.
    decay_fraction: float = 0.0
    #: Into which a script's warm-up is compressed.
    warmup_steps: int = 0
    #: How many times the loss is evaluated along a branch, evenly spaced in samples.
    evaluations: int = TRIAL_EVALUATIONS
    #: On which it is evaluated, at most.
    evaluation_samples: int = 512
    #: The same for all branches that are compared, since BatchNorm sees the batch.
    evaluation_batch_size: int = 64

    def make_branch(self, **seen: Any) -> TrialBranch:
        """Return one of the branches, with what was seen of it."""
        return TrialBranch(
            micro_batch_size=self.micro_batch_size,
            gradient_accumulation_steps=self.gradient_accumulation_steps,
            global_batch_size=self.global_batch_size,
            learning_rate=self.learning_rate,
            beta2=self.beta2,
            weight_decay=self.weight_decay,
            **seen,
        )

    def list_branches(self) -> Sequence[Self]:
        """Return a task for the whole branch, and for each shorter one."""
        return tuple(
            msgspec.structs.replace(self, samples=samples, shorter_samples=())
            for samples in (self.samples, *self.shorter_samples)
        )


class LrRangeCurve(msgspec.Struct, frozen=True, kw_only=True):
    """One training run in which the learning rate rose with every step."""

    micro_batch_size: Size
    gradient_accumulation_steps: Size
    global_batch_size: Size
    #: Of the whole range, of which the curve may have fewer.
    steps: Count
    seed: int
    #: Of each step, in the first parameter group; ascending.
    rates: tuple[Weight, ...]
    #: Of the step's own batch before the step; the last is None where it was not finite.
    losses: tuple[Figure | None, ...]
    #: The end of the range, a loss not finite or far above its best, or the time.
    stopped_by: Literal["range", "divergence", "budget"]

    def __post_init__(self) -> None:
        """Refuse losses that are not one for each rate."""
        if len(self.rates) != len(self.losses):
            raise ValueError("`losses` is not as long as `rates`")


class LrRangeTask(BranchTask[LrRangeCurve], frozen=True, kw_only=True):
    """Train while the learning rate rises by one factor with every step: a range test."""

    runs: ClassVar[str] = "advisor.rate.measure_range:run"
    runs_script: ClassVar[str] = "advisor.rate.measure_script:run_range"

    #: Of the first step and of the last, in the first parameter group; others keep their ratio.
    low_rate: float
    high_rate: float
    #: Fewer where the time does not suffice.
    steps: int
    #: Fewest worth running, two at least.
    least_steps: int = 60


class LrRangeSeed(msgspec.Struct, frozen=True, kw_only=True):
    """Where the smoothed curve of one seed turns, by the rates of its steps."""

    seed: int
    #: Level before the rate does anything, and where it is lowest.
    first_loss: float
    lowest_loss: float
    #: From this rate on the loss stays clearly below the first; this and the next two are None
    #: where it never fell clearly.
    learns_from: float | None = None
    #: Where it falls fastest in the logarithm of the rate.
    steepest_at: float | None = None
    #: From where on it is as low as it gets, within its noise.
    lowest_at: float | None = None
    #: From here on it is clearly above its lowest; None where the curve ends first.
    diverges_at: float | None = None


class LrRangeConclusion(msgspec.Struct, frozen=True, kw_only=True):
    """The good rates at one batch, by a range test."""

    status: Literal["found", "inconclusive"]
    #: Why there is no rate, or what it rests on; without a full stop.
    reason: str
    global_batch_size: int | None = None
    #: From here on every seed learns.
    low: float | None = None
    #: Up to here no seed diverges; None where none did in the whole range.
    high: float | None = None
    #: The rate to start a trial from.
    suggested: float | None = None
    #: Where a one-cycle schedule may have its peak, and where it may start.
    one_cycle_maximum: float | None = None
    one_cycle_base: float | None = None
    seeds: tuple[LrRangeSeed, ...] = ()

    @property
    def fall(self) -> float:
        """Median over the seeds that learnt of how far the smoothed loss fell; 0 without any."""
        falls = sorted(
            each.first_loss - each.lowest_loss for each in self.seeds if each.lowest_at is not None
        )
        return falls[len(falls) // 2] if falls else 0.0


class RangePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What `lr-range` is asked; what is None is filled in once the model file is known."""

    #: The base batch, or 32, and no more than the dataset has.
    global_batch_size: Size | None = None
    #: The whole batch.
    micro_batch_size: Size | None = None
    gradient_accumulation_steps: Size | None = None
    #: Around the optimizer's own rate; of the first parameter group.
    low_rate: Weight | None = None
    high_rate: Weight | None = None
    #: Of each curve, where the time allows.
    steps: Count = 200
    #: Curves.
    seeds: Count = 3


TRIALS = Series("trials", TrialBranch)
LR_RANGES = Series("lr_ranges", LrRangeCurve, noun="curve")
RANGE = Slot("range", RangePlan)
