"""Which sample of a batch makes its step fail, where it is one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from advisor.errors import AdvisorError, SampleError, shorten
from advisor.training.device_failure import is_device_call
from advisor.training.model_file.data import DatasetBatches
from advisor.training.model_file.workload import Workload
from advisor.training.out_of_memory import is_out_of_memory
from advisor.training.training import Training


@contextmanager
def naming_broken_sample(
    workload: Workload, size: int, largest_samples: Sequence[int]
) -> Iterator[None]:
    """Have an error in the block name the one sample of the worst batch that causes it."""
    try:
        yield
    except AdvisorError:
        raise
    except Exception as error:
        if is_out_of_memory(error) or is_device_call(error) or workload.is_step_only:
            raise
        if not isinstance(workload.batches, DatasetBatches):
            raise
        indices = [*dict.fromkeys(workload.list_worst(size, largest_samples))]
        index = _find_broken(workload, indices, type(error))
        if index is None:
            raise
        raise SampleError(
            f"sample {index} of the dataset does not run, though others do "
            f"({type(error).__name__}: {shorten(error)})",
            next_step="Mend the sample or leave it out: of the dataset, or in collate_fn(samples).",
        ) from error


def _find_broken(workload: Workload, indices: Sequence[int], kind: type[Exception]) -> int | None:
    """Return the sample with which alone the loss fails so; None where it is not one."""
    training = workload.make_training()
    training.model.eval()  # so that a single sample runs under BatchNorm
    while len(indices) > 1:
        half = len(indices) // 2
        halves = (indices[:half], indices[half:])
        fails = [_fails(workload, training, part, kind) for part in halves]
        if sum(fails) != 1:  # it takes more than one, or nothing runs any more
            return None
        indices = halves[fails.index(True)]
    return indices[0]


def _fails(
    workload: Workload, training: Training, indices: Sequence[int], kind: type[Exception]
) -> bool:
    try:
        training.forget()
        training.evaluate(workload.take(indices))
    except Exception as error:  # noqa: BLE001 - of any kind that the user's code has
        return type(error) is kind
    return False
