"""Which sample of a batch makes its step fail, where it is one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from advisor.errors import AdvisorError
from advisor.training.device_failure import is_device_call, is_out_of_memory
from advisor.training.model_file.data import DatasetBatches
from advisor.training.model_file.workload import Workload


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
        is_device = is_out_of_memory(error) or is_device_call(error)
        if is_device or not isinstance(workload.batches, DatasetBatches):
            raise
        index = _find_broken(workload, workload.list_worst(size, largest_samples), type(error))
        if index is None:
            raise
        workload.batches.refuse_sample(index, error, "does not run, though others do")


def _find_broken(workload: Workload, indices: Sequence[int], kind: type[Exception]) -> int | None:
    """Return the sample with which alone the loss fails so; None where it is not one."""
    training = workload.make_training()
    training.model.eval()  # so that a single sample runs under BatchNorm

    def fails(part: Sequence[int]) -> bool:
        try:
            training.forget()
            training.evaluate(workload.take(part))
        except Exception as error:  # noqa: BLE001 - of any kind that the user's code has
            return type(error) is kind
        return False

    left = [*dict.fromkeys(indices)]
    while len(left) > 1:
        half = len(left) // 2
        broken = [part for part in (left[:half], left[half:]) if fails(part)]
        if len(broken) != 1:  # it takes more than one, or nothing runs any more
            return None
        (left,) = broken
    return left[0]
