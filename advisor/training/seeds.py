"""Random generators, all started from one number."""

import random
import sys

import torch


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's (where loaded) and torch's generators."""
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
    torch.manual_seed(seed)
