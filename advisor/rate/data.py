"""What is asked of rate, what was seen of it, and what follows: the types."""

from collections.abc import Mapping
from typing import ClassVar, Literal, NamedTuple

import msgspec

from advisor.engine.record import Series
from advisor.engine.task import WorkloadTask


class LearningRate(msgspec.Struct, frozen=True, kw_only=True):
    """The advised rate.

    Attributes:
        value: A rate that was tried; None where none can be advised.
        rule: The scaling rule, in words and symbols.
        proposed: What the rule alone gives.
        low: The rule at the lower end of the noise interval.
        high: The rule at its upper end.
        capped_by: `trial` where a trial lowered the rule's value.
        raised_by: `trial` where a trial raised it.
        reason: Why the value is what it is, or why there is none.
    """

    value: float | None
    rule: str
    base_value: float | None
    base_batch_size: int | None
    proposed: float | None = None
    low: float | None = None
    high: float | None = None
    capped_by: Literal["trial"] | None = None
    raised_by: Literal["trial"] | None = None
    reason: str = ""


class OptimizerChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Other settings that go with the batch; None means: leave as it is.

    Attributes:
        warmup_steps: The least length of a warm-up, for a training that has one.
    """

    beta2: float | None = None
    weight_decay: float | None = None
    warmup_steps: int | None = None


class Way(NamedTuple):
    """How a step of a global batch is made, and how long it takes."""

    micro_batch_size: int
    gradient_accumulation_steps: int
    step_s: float


class Advised(msgspec.Struct, frozen=True, kw_only=True):
    """What is advised by all that is known so far, for rates to be tried at it."""

    global_batch_size: int
    learning_rate: LearningRate
    #: By global batch, of all that may be tried.
    ways: Mapping[int, Way]


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """Mean loss on the fixed evaluation samples after `samples` training samples."""

    samples: int
    loss: float


class TrialBranch(msgspec.Struct, frozen=True, kw_only=True):
    """One short training run at one batch and rate.

    Attributes:
        global_batch_size: micro_batch_size × gradient_accumulation_steps.
        evaluations: Losses along the branch, the first before training; ends early on divergence.
        diverged: Whether a loss was not finite.
    """

    micro_batch_size: int
    gradient_accumulation_steps: int
    global_batch_size: int
    learning_rate: float
    seed: int
    samples: int
    evaluations: tuple[Evaluation, ...]
    diverged: bool
    beta2: float | None = None
    weight_decay: float | None = None


class LrRangeCurve(msgspec.Struct, frozen=True, kw_only=True):
    """One training run in which the learning rate rose with every step.

    Attributes:
        global_batch_size: micro_batch_size × gradient_accumulation_steps.
        steps: Of the whole range, of which the curve may have fewer.
        seed: Of the start and the order of the data.
        rates: Rate of each step, in the first parameter group; ascending.
        losses: Training loss of the step's own batch before the step; the last is None where it was
            not finite.
        stopped_by: What ended the run: the end of the range, a loss that was not finite or rose far
            above its best, or the time.
    """

    micro_batch_size: int
    gradient_accumulation_steps: int
    global_batch_size: int
    steps: int
    seed: int
    rates: tuple[float, ...]
    losses: tuple[float | None, ...]
    stopped_by: Literal["range", "divergence", "budget"]


LrRangeStatus = Literal["found", "inconclusive"]


class LrRangeSeed(msgspec.Struct, frozen=True, kw_only=True):
    """Where the smoothed curve of one seed turns; rates are those of its steps.

    Attributes:
        first_loss: Level before the rate does anything.
        lowest_loss: Level where the smoothed loss is lowest.
        learns_from: From this rate on the loss stays clearly below the first; None where it never
            fell clearly.
        steepest_at: Where it falls fastest in the logarithm of the rate; likewise.
        lowest_at: From where on it is as low as it gets, within its noise; likewise.
        diverges_at: From here on it is clearly above its lowest; None where the curve ends first.
    """

    seed: int
    first_loss: float
    lowest_loss: float
    learns_from: float | None = None
    steepest_at: float | None = None
    lowest_at: float | None = None
    diverges_at: float | None = None


class LrRangeConclusion(msgspec.Struct, frozen=True, kw_only=True):
    """The good rates at one batch, by a range test.

    Attributes:
        reason: One sentence without its full stop: why there is no rate, or what it rests on.
        low: From here on every seed learns.
        high: Up to here no seed diverges; None where none did in the whole range.
        suggested: The rate to start a trial from.
        one_cycle_maximum: Where a one-cycle schedule may have its peak.
        one_cycle_base: Where such a schedule may start.
    """

    status: LrRangeStatus
    reason: str
    global_batch_size: int | None = None
    low: float | None = None
    high: float | None = None
    suggested: float | None = None
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


class DerivedLrRange(msgspec.Struct, frozen=True, kw_only=True):
    """Every conclusion of `bsadvisor lr-range`.

    Attributes:
        lr_range: By the range test alone; None before its first curve.
        learning_rate: What may be advised: a rate that trained at the same batch from fresh starts.
    """

    lr_range: LrRangeConclusion | None = None
    learning_rate: LearningRate | None = None


class TrialTask(WorkloadTask[TrialBranch], frozen=True, kw_only=True):
    """Train short branches at one batch and rate, one for each seed.

    Attributes:
        micro_batch_size: Samples of one forward/backward.
        gradient_accumulation_steps: Forward/backward passes for each optimizer step.
        learning_rate: Rate of the first parameter group; others keep their ratio to it.
        beta2: Replaces Adam's second beta where given.
        weight_decay: Replaces the optimizer's weight decay where given.
        samples: Samples that each branch consumes.
        evaluations: How many times the loss is evaluated along a branch, evenly spaced in samples.
        evaluation_samples: On which the loss is evaluated, at most.
        evaluation_batch_size: Samples of one evaluation pass; the same for all branches that are
            compared, since BatchNorm sees the batch.
        seeds: One branch for each; the seed fixes the start and the order of the data.
        loss_is_sum: Whether the loss sums over its batch; accumulated losses are then not averaged.
        budget_s: No further branch is started after this long.
    """

    runs: ClassVar[str] = "advisor.rate.measure:run"

    micro_batch_size: int
    gradient_accumulation_steps: int
    learning_rate: float
    samples: int
    evaluations: int
    seeds: tuple[int, ...]
    evaluation_samples: int = 512
    evaluation_batch_size: int = 64
    loss_is_sum: bool = False
    budget_s: float = 60.0
    beta2: float | None = None
    weight_decay: float | None = None


class LrRangeTask(WorkloadTask[LrRangeCurve], frozen=True, kw_only=True):
    """Train from each seed while the learning rate rises from step to step: a range test.

    Attributes:
        micro_batch_size: Samples of one forward/backward.
        gradient_accumulation_steps: Forward/backward passes for each optimizer step.
        low_rate: Rate of the first step, in the first parameter group; others keep their ratio.
        high_rate: Rate of the last step.
        steps: Optimizer steps; the rate rises by one factor with each. Fewer where the time does
            not suffice.
        least_steps: Fewest steps worth running, two at least.
        seeds: One curve for each; the seed fixes the start and the order of the data.
        loss_is_sum: As in `TrialTask`.
        budget_s: No further step is started after this long.
    """

    runs: ClassVar[str] = "advisor.rate.measure_range:run"

    micro_batch_size: int
    gradient_accumulation_steps: int
    low_rate: float
    high_rate: float
    steps: int
    least_steps: int = 60
    seeds: tuple[int, ...]
    loss_is_sum: bool = False
    budget_s: float = 60.0


TRIALS = Series("trials", TrialBranch)
LR_RANGES = Series("lr_ranges", LrRangeCurve)
