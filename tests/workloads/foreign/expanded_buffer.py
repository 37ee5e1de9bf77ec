"""A buffer is an expanded view, which cannot be written to; another is made in inference mode."""

import torch
from rows import Network
from rows import make_rows as make_dataset  # noqa: F401


class Expanded(Network):
    def __init__(self):
        super().__init__()
        self.register_buffer("grid", torch.arange(8.0).expand(4, 8))
        with torch.inference_mode():
            self.register_buffer("scale", torch.ones(8))

    def forward(self, inputs):
        return super().forward(inputs + self.grid.mean(0) * self.scale.clone())


make_model = Expanded
