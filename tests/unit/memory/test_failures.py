import pytest

from advisor.memory.refusals import judge_failure


@pytest.mark.parametrize(
    ("message", "outcome"),
    [
        ("GET was unable to find an engine to execute this computation", "oom"),
        ("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED", "oom"),
        ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", "oom"),
        ("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED", "oom"),
        ("CUDA error: invalid configuration argument", "kernel"),
        ("input tensor must fit into 32-bit index math", "kernel"),
        ("nonzero is not supported for tensors with more than INT_MAX elements", "kernel"),
        ("mat1 and mat2 shapes cannot be multiplied (2x9 and 8x3)", "refused"),
    ],
)
def test_errors_that_mean_the_size_are_told_from_the_models(message, outcome):
    assert judge_failure(f"model.py:3: RuntimeError: {message}") == outcome
