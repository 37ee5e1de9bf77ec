"""Samples are made from their number, of which there are more than can be permuted."""

import torch
from rows import Network as make_model  # noqa: F401


class Made:
    def __len__(self):
        return 10**12

    def __getitem__(self, index):
        inputs = torch.sin(torch.arange(8) * (index % 9973 + 1.0))
        return inputs, inputs[:3].argmax()


make_dataset = Made
