"""The only module of the file has no parameters."""

from rows import make_rows as make_dataset  # noqa: F401
from torch import nn

criterion = nn.CrossEntropyLoss()


class Focal(nn.Module):
    def forward(self, logits, labels):
        return criterion(logits, labels)
