"""Gradients are switched off for the whole process."""

import torch
from rows import Network as make_model  # noqa: F401
from rows import make_rows as make_dataset  # noqa: F401

torch.set_grad_enabled(False)
