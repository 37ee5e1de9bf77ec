"""A file that caps torch's allocator itself, at an eightieth of the card."""

import torch

from tests.cuda.models.mlp import make_batch, make_model, make_optimizer  # noqa: F401

torch.cuda.set_per_process_memory_fraction(1 / 80)
BASE_BATCH_SIZE = 64
