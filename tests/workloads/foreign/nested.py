"""A batch is one nested tensor."""

import torch
from rows import Network as make_model  # noqa: F401
from torch.nn import functional


class Sequences:
    def __len__(self):
        return 256

    def __getitem__(self, index):
        return torch.full((3 + index % 20, 8), index % 3.0), index % 3


make_dataset = Sequences


def collate_fn(samples):
    rows, labels = zip(*samples, strict=True)
    return torch.nested.nested_tensor(list(rows)), torch.tensor(labels)


def loss_fn(model, batch):
    outputs = [model(rows).mean(0) for rows in batch[0].unbind()]
    return functional.cross_entropy(torch.stack(outputs), batch[1])
