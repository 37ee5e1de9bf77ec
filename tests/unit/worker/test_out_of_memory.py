import pytest
import torch

from advisor.training.device_failure import is_out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        MemoryError(),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("cuBLAS: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
        RuntimeError("NCCL error: Cuda failure 2 'out of memory'"),
        RuntimeError("HIP out of memory. Tried to allocate"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"),
        RuntimeError("could not create a primitive"),
        RuntimeError("could not execute a primitive"),
    ],
)
def test_every_text_that_means_out_of_memory_is_known(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x9 and 8x3)"),
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("nvrtc: batch of 65536 exceeds the grid limit 65535"),
        ValueError("out of memory, says a user"),
        IndexError("index out of range in self"),
    ],
)
def test_any_other_error_is_the_models(error):
    assert not is_out_of_memory(error)


def test_a_cause_that_ran_out_of_memory_is_followed():
    outer = RuntimeError("the training step failed")
    outer.__cause__ = torch.OutOfMemoryError("CUDA out of memory")
    assert is_out_of_memory(outer)
