"""What is asked of loader, what was seen of it, and what follows: the types."""

from typing import ClassVar, Literal

import msgspec

from advisor.engine.record import Series
from advisor.engine.task import WorkloadTask
from advisor.statistics import Estimate


class LoaderTiming(msgspec.Struct, frozen=True, kw_only=True):
    """One number of workers at one size: loading alone, training alone and both, by windows.

    Attributes:
        workers: 0 loads in the training process, between the steps.
        is_own: Whether the user's own loader has this number (without one: DataLoader's default).
        training_samples_per_s: On a batch that is there already, its way to the device included.
        waiting_fractions: Share of each window together that training waited for a batch.
        moving_s: That way to the device alone; none on the CPU.
        batch_s: Seconds between two batches of the loader alone; None where none came.
        restart_s: What a pass over the dataset costs beside its batches, where no window has it.
        steps: Training steps that the loader fed.
        cores: Processors that the process may run on.
        is_iterable: Whether the dataset is a stream, which each worker reads for itself.
        message: Why something was not measured.
    """

    workers: int
    micro_batch_size: int
    is_own: bool = False
    alone_samples_per_s: tuple[float, ...] = ()
    training_samples_per_s: tuple[float, ...] = ()
    together_samples_per_s: tuple[float, ...] = ()
    waiting_fractions: tuple[float, ...] = ()
    moving_s: tuple[float, ...] = ()
    batch_s: float | None = None
    restart_s: float = 0.0
    steps: int = 0
    cores: int | None = None
    is_iterable: bool = False
    message: str | None = None


LoaderStatus = Literal["keeps_up", "limits", "inconclusive", "none"]


class LoaderPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One number of workers; intervals are over windows of one process.

    Attributes:
        samples_per_s: The loader alone.
        loss_fraction: Share of the training speed that is lost to loading.
        waiting_fraction: Share of the time that training waited for a batch; None where unknown.
    """

    workers: int
    status: LoaderStatus
    samples_per_s: Estimate
    together_samples_per_s: Estimate
    loss_fraction: Estimate
    waiting_fraction: float | None


class LoaderConclusion(msgspec.Struct, frozen=True, kw_only=True):
    """What the loader means for the training speed.

    The seconds by which it lengthens a step: `plan.estimate_loop_step_s`.

    Attributes:
        micro_batch_size: At which the workers were judged.
        status: Of the loader as it is; "none" where batches are in memory.
        training_samples_per_s: Training alone, on a batch that is there already.
        points: In the order they ran.
        samples_per_s_per_worker: Rate of the largest number of background workers over that number.
        workers_needed: Smallest number whose rate, by that rule, is that of training; None where
            the loader keeps up, no background worker was timed, or more of them load no faster.
        is_verified: Whether training kept up with that number; None where it was not measured or
            the windows do not tell.
        advised_workers: A measured number to use; None where none was seen to be worth it.
        does_scale: Whether more workers load faster; None with fewer than two numbers.
        law_sizes: Micro-batches that were timed for the law; with one, loading is proportional.
        fixed_s: Of loading a micro-batch and moving it to the device, beside `per_sample_s`.
        hidden_fractions: Of the lesser of loading and step, what runs beside the other, at each.
        epoch_per_sample_s: What a pass costs beside its batches, over its samples.
        log_error: Standard error of the log of the step that the law gives for the loop timed.
    """

    micro_batch_size: int
    status: LoaderStatus
    own_workers: int
    training_samples_per_s: Estimate
    points: tuple[LoaderPoint, ...]
    samples_per_s_per_worker: float | None = None
    workers_needed: int | None = None
    is_verified: bool | None = None
    advised_workers: int | None = None
    does_scale: bool | None = None
    cores: int | None = None
    is_iterable: bool = False
    message: str | None = None
    law_sizes: tuple[int, ...] = ()
    fixed_s: float = 0.0
    per_sample_s: float = 0.0
    hidden_fractions: tuple[float, ...] = ()
    epoch_per_sample_s: float = 0.0
    log_error: float = 0.0

    def find_point(self, workers: int | None) -> LoaderPoint | None:
        """Return the point with this number of workers, None where it was not measured."""
        return next((point for point in self.points if point.workers == workers), None)


class LoaderTask(WorkloadTask[LoaderTiming], frozen=True, kw_only=True):
    """Time the user's loader alone, training alone, and both together.

    The worker starts with the loader as it is, also at the first of `other_sizes` that the time
    allows, and adds numbers of workers while training waits, none of them after `budget_s`.
    """

    runs: ClassVar[str] = "advisor.loader.measure:run"

    micro_batch_size: int
    other_sizes: tuple[int, ...] = ()
    budget_s: float


LOADER_TIMINGS = Series("loader_timings", LoaderTiming)
