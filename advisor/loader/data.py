"""What is asked of the loader and of the loop that it feeds, and what was seen: the types."""

from typing import ClassVar, Literal

import msgspec

from advisor.engine.record import Series
from advisor.engine.task import WorkloadTask
from advisor.figures import Count, Duration, Figure, PerSecond, Seconds, Size
from advisor.statistics import Estimate


class LoaderTiming(msgspec.Struct, frozen=True, kw_only=True):
    """One number of workers at one size: loading alone, training alone and both, by windows."""

    #: 0 loads in the training process, between the steps.
    workers: Count
    micro_batch_size: Size
    #: Whether the user's own loader has this number (without one: DataLoader's default).
    is_own: bool = False
    alone_samples_per_s: tuple[PerSecond, ...] = ()
    #: On a batch that is there already, its way to the device included.
    training_samples_per_s: tuple[PerSecond, ...] = ()
    together_samples_per_s: tuple[PerSecond, ...] = ()
    #: Share of each window together that training waited for a batch.
    waiting_fractions: tuple[Figure, ...] = ()
    batch_s: Duration | None = None
    steps: Count = 0
    cores: Count | None = None
    #: Whether the dataset is a stream, which each worker reads for itself.
    is_iterable: bool = False
    message: str | None = None


LoaderStatus = Literal["keeps_up", "limits", "inconclusive"]


class LoaderPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One number of workers; intervals are over windows of one process."""

    workers: int
    status: LoaderStatus
    #: The loader alone.
    samples_per_s: Estimate
    together_samples_per_s: Estimate
    #: Share of the training speed that is lost to loading.
    loss_fraction: Estimate
    #: Share of the time that training waited for a batch; None where unknown.
    waiting_fraction: float | None


class LoaderConclusion(msgspec.Struct, frozen=True, kw_only=True):
    """What the loader means for the training speed."""

    micro_batch_size: int
    #: Of the loader as it is.
    status: LoaderStatus
    own_workers: int
    #: Training alone, on a batch that is there already.
    training_samples_per_s: Estimate
    points: tuple[LoaderPoint, ...]
    #: Rate of the largest number of background workers over that number.
    samples_per_s_per_worker: float | None = None
    #: Whose rate by that rule is that of training; None where there is none, or no need.
    workers_needed: int | None = None
    #: Whether training kept up with that number; None where it was not seen to or not to.
    is_verified: bool | None = None
    #: A measured number to use; None where none was seen to be worth it.
    advised_workers: int | None = None
    #: Whether more workers load faster; None with fewer than two numbers.
    does_scale: bool | None = None
    cores: int | None = None
    is_iterable: bool = False
    message: str | None = None

    def find_point(self, workers: int | None) -> LoaderPoint | None:
        """Return the point with this number of workers, None where it was not measured."""
        return next((point for point in self.points if point.workers == workers), None)


class LoaderTask(WorkloadTask[LoaderTiming], frozen=True, kw_only=True):
    """Time the user's loader alone, training alone, and both; then with more workers."""

    runs: ClassVar[str] = "advisor.loader.measure:run"

    micro_batch_size: int
    budget_s: float


class LoopTiming(msgspec.Struct, frozen=True, kw_only=True):
    """Steps of the user's loop at several sizes, in turns in one process."""

    #: Of the user's own loader; 0 loads in the training process, between the steps.
    workers: Count
    is_in_memory: bool
    micro_batch_sizes: tuple[Size, ...] = ()
    #: For each, of a step and of getting its batch, in every round.
    step_s: tuple[tuple[Seconds, ...], ...] = ()
    #: For each, what a pass over the dataset costs beside its batches.
    pass_s: tuple[Duration, ...] = ()
    #: What a batch of the first size costs a training that loads for itself alone.
    fetch_s: Duration = 0.0
    message: str | None = None

    def __post_init__(self) -> None:
        """Refuse figures that are not one for each size."""
        if not len(self.micro_batch_sizes) == len(self.step_s) == len(self.pass_s):
            raise ValueError("`step_s` and `pass_s` are not as long as `micro_batch_sizes`")
        if len({*map(len, self.step_s)}) > 1:
            raise ValueError("`step_s` has not as many rounds of each size")


class LoopTask(WorkloadTask[LoopTiming], frozen=True, kw_only=True):
    """Time steps of the user's loop with the loader as it is, at as many sizes as time allows."""

    runs: ClassVar[str] = "advisor.loader.measure:run_loop"

    #: Those that matter most first.
    micro_batch_sizes: tuple[int, ...]
    #: Cut batches from the dataset's tensors; where it has none they cost nothing.
    is_in_memory: bool = False
    budget_s: float


LOADER_TIMINGS = Series("loader_timings", LoaderTiming)
LOOP_TIMINGS = Series("loop_timings", LoopTiming)
