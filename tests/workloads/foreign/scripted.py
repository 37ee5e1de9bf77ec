"""The model is a scripted instance, part of it frozen."""

import torch
from rows import Network
from rows import make_rows as make_dataset  # noqa: F401

network = torch.jit.script(Network())
for parameter in network.body.parameters():
    parameter.requires_grad_(False)
