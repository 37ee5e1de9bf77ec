"""A file that chooses how float32 is computed by torch's settings of single operators."""

import torch

from tests.cuda.models.default_device import make_model, make_optimizer  # noqa: F401

torch.set_default_device("cpu")
torch.backends.cudnn.conv.fp32_precision = "ieee"
torch.backends.cuda.matmul.fp32_precision = "tf32"
BASE_BATCH_SIZE = 16


def make_dataset():
    return torch.utils.data.TensorDataset(torch.randn(2000, 8), torch.randint(4, (2000,)))
