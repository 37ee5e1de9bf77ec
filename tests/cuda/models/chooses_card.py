"""A file that chooses its card, as many do in their first lines."""

import os

os.environ["CUDA_VISIBLE_DEVICES"] = "1"

from tests.cuda.models.mlp import make_batch, make_model, make_optimizer  # noqa: F401

BASE_BATCH_SIZE = 64
