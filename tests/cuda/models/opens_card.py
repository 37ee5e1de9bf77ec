"""A file that opens the card as it is imported."""

import torch

from tests.cuda.models.mlp import make_batch, make_model, make_optimizer  # noqa: F401

HELD = torch.ones(1, device="cuda")
BASE_BATCH_SIZE = 64
