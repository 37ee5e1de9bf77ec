import pytest
import torch

from advisor.engine.wire import error_from, failure_of
from advisor.engine.worker.failure import explain
from advisor.errors import DeviceCallError, WorkloadError
from advisor.memory.data import MemoryTask
from advisor.training.data import WorkloadSpec
from advisor.training.device_failure import explain_device_failure

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (FULL, "its memory is full"),
        (RuntimeError("CUDA error: out of memory"), "its memory is full"),
        (
            RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable"),
            "another process has the GPU to itself (its compute mode is exclusive)",
        ),
        (
            RuntimeError("The NVIDIA driver on your system is too old (found version 12000)"),
            "its driver is too old for this build of torch",
        ),
        (RuntimeError("CUDA error: unspecified launch failure"), "it no longer answers"),
    ],
)
def test_what_is_wrong_with_the_card_is_told(error, what):
    assert explain_device_failure(error, is_users=False)[0] == what


def test_a_library_that_torch_did_not_finish_compiling_is_no_fault_of_the_model_file():
    error = ImportError("/tmp/torchinductor_me/66/c66.main.so: file too short")
    task = MemoryTask(
        workload=WorkloadSpec(target=__file__), micro_batch_size=1, capacity_bytes=None
    )
    with pytest.raises(ImportError) as raised:
        raise error
    assert "delete it, and try once more" in explain(raised.value, task).next_step


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: unspecified launch failure"),  # by the user's own kernel
        MemoryError(),
    ],
)
def test_the_users_errors_are_left_to_the_user(error):
    assert explain_device_failure(error, is_users=True) is None


def fail(text, error_type=None):
    """The error of a line of the user's, or one of ours that it led to."""
    try:
        try:
            raise RuntimeError(text)
        except RuntimeError as error:
            if error_type is None:
                raise
            raise error_type("it does not run") from error
    except Exception as error:
        return error


@pytest.mark.parametrize("error_type", [None, WorkloadError])
@pytest.mark.parametrize(
    ("text", "is_call"),
    [("CUDA error: unspecified launch failure", True), ("shapes cannot be multiplied", False)],
)
def test_a_failed_call_in_the_users_code_is_told_apart(text, is_call, error_type):
    task = MemoryTask(
        workload=WorkloadSpec(target="model.py"), micro_batch_size=1, capacity_bytes=None
    )
    told = error_from(failure_of(explain(fail(text, error_type), task)))
    assert isinstance(told, WorkloadError)
    assert isinstance(told, DeviceCallError) == is_call
