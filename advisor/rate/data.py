"""What is asked of learning rates, what was seen of them, and what follows: the types."""

import math
import statistics
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

import msgspec
from msgspec.structs import replace

from advisor.engine.record import Series
from advisor.engine.task import WorkloadTask
from advisor.figures import Count, Figure, Fraction
from advisor.memory.split import GlobalBatch

T = TypeVar("T")

#: Global batch and rate.
PairKey = tuple[int, float]

#: Evaluations along a branch: enough to compare curves of different batches at equal samples.
TRIAL_EVALUATIONS = 24
#: Those at the end of a branch whose mean is its result: one alone may be a lucky dip.
TAIL_EVALUATIONS = 3
#: Rates closer than this, relatively, are the same: they were stored and read again.
SAME_RATE = 1e-9
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
        return replace(
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


class Candidate(GlobalBatch, frozen=True, kw_only=True):
    """One way to make an optimizer step."""

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


class TrainedAt(GlobalBatch, frozen=True, kw_only=True):
    """At which batch and rate something was trained."""

    learning_rate: Figure

    @property
    def key(self) -> PairKey:
        """What it is told apart by."""
        return self.global_batch_size, self.learning_rate


class TrialBranch(TrainedAt, frozen=True, kw_only=True):
    """One short training run at one batch and rate."""

    seed: int
    samples: Count
    #: Losses along the branch, the first before training; they end early on divergence.
    evaluations: tuple[Evaluation, ...]
    #: Whether a loss was not finite.
    diverged: bool
    beta2: Fraction | None = None
    weight_decay: Figure | None = None
    #: Samples from which the rate falls, 0 by the user's own schedule; None where it never did.
    decays_from: Count | None = None
    #: Steps into which a script's warm-up was compressed; None where it has none.
    warmup_steps: Count | None = None
    #: Of a step's loss, where evaluations are means over training's own batches; else 0.
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
    def split(self) -> tuple[int, int]:
        """Of what an optimizer step is made."""
        return self.micro_batch_size, self.gradient_accumulation_steps

    @property
    def global_batch_size(self) -> int:
        """Samples of one optimizer step."""
        return self.micro_batch_size * self.gradient_accumulation_steps

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
    #: Last share of them over which the rate falls; above 0, the user's own schedule is run.
    decay_fraction: float = 0.0
    #: Into which a script's warm-up is compressed.
    warmup_steps: int = 0
    #: How many times the loss is evaluated along a branch, evenly spaced in samples.
    evaluations: int = TRIAL_EVALUATIONS
    #: On which it is evaluated, at most.
    evaluation_samples: int = 512
    #: The same for all branches that are compared, since BatchNorm sees the batch.
    evaluation_batch_size: int = 64

    @property
    def key(self) -> PairKey:
        """Batch and rate."""
        return self.global_batch_size, self.learning_rate

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
            replace(self, samples=samples, shorter_samples=())
            for samples in (self.samples, *self.shorter_samples)
        )


TRIALS = Series("trials", TrialBranch)
