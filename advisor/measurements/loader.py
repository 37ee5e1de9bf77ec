"""The user's loader, timed apart from training and together with it."""

import msgspec


class LoaderTiming(msgspec.Struct, frozen=True, kw_only=True):
    """One number of workers: windows of loading alone, of training alone, and of both together.

    Attributes:
        workers: Processes that load; 0 loads in the training process, between the steps.
        micro_batch_size: Samples of one batch.
        is_own: Whether the user's own loader has this number (without one: DataLoader's default).
        alone_samples_per_s: Loading alone, one value for each window, in the steady state.
        training_samples_per_s: Training on a batch that is there already, its way to the device
            included, in windows before and after the loading.
        together_samples_per_s: Training fed by the loader; none where that was not measured.
        waiting_fractions: Share of each window together that training waited for a batch.
        batch_s: Seconds between two batches of the loader alone; None where none came.
        steps: Training steps that the loader fed.
        cores: Processors that the process may run on; None where unknown.
        is_iterable: Whether the dataset is a stream, which each worker reads for itself.
        message: Why something was not measured, in one line.
    """

    workers: int
    micro_batch_size: int
    is_own: bool = False
    alone_samples_per_s: tuple[float, ...] = ()
    training_samples_per_s: tuple[float, ...] = ()
    together_samples_per_s: tuple[float, ...] = ()
    waiting_fractions: tuple[float, ...] = ()
    batch_s: float | None = None
    steps: int = 0
    cores: int | None = None
    is_iterable: bool = False
    message: str | None = None
