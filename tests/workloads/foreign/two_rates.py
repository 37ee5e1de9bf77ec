"""The first group is frozen by its rate, the others train at two rates."""

import torch
from rows import Network as make_model  # noqa: F401
from rows import make_rows as make_dataset  # noqa: F401

BASE_BATCH_SIZE = 16


class Clipped(torch.optim.SGD):
    def step(self, closure=None):
        torch.nn.utils.clip_grad_norm_([p for g in self.param_groups for p in g["params"]], 1.0)
        return super().step(closure)


def make_optimizer(model):
    body, head = list(model.body.parameters()), model.head
    return Clipped(
        [
            {"params": body, "lr": 0.0},
            {"params": [head.weight], "lr": 0.02, "weight_decay": 1e-4},
            {"params": [head.bias]},
        ],
        lr=0.1,
        momentum=0.9,
    )
