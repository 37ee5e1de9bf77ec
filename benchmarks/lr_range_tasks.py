"""The tasks of the range-test benchmark as one model file: `--set task=NAME --set optimizer=NAME`.

All data ships with a library: handwritten digits as vectors and as images, a table of tumours, a
regression on Gaussian inputs, and the manual pages inside Python, character by character.
"""

from pydoc_data.topics import topics

import torch
from sklearn.datasets import load_breast_cancer, load_digits
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

BASE_BATCH_SIZE = 32
CONTEXT = 32  # characters


class NextCharacter(nn.Module):
    """A gated recurrent network over characters; gives scores of the next one at each place."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(128, 32)
        self.recurrent = nn.GRU(32, 64, batch_first=True)
        self.scores = nn.Linear(64, 128)

    def forward(self, characters: Tensor) -> Tensor:
        """Return scores of shape (batch, characters of the alphabet, places)."""
        hidden, _ = self.recurrent(self.embedding(characters))
        return self.scores(hidden).transpose(1, 2)


def make_model(task: str) -> nn.Module:
    """Return the task's model."""
    match task:
        case "digits":
            return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
        case "images":
            return nn.Sequential(
                nn.Conv2d(1, 16, 3, padding=1, bias=False),
                nn.BatchNorm2d(16),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(16, 32, 3, padding=1, bias=False),
                nn.BatchNorm2d(32),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(1),
                nn.Flatten(),
                nn.Linear(32, 10),
            )
        case "table":
            return nn.Sequential(nn.Linear(30, 64), nn.Tanh(), nn.Linear(64, 2))
        case "gaussian":
            return nn.Linear(50, 1)
        case "characters":
            return NextCharacter()
    raise ValueError(task)


def make_dataset(task: str) -> Dataset:
    """Return the task's data."""
    match task:
        case "digits" | "images":
            images, labels = load_digits(return_X_y=True)
            inputs = torch.as_tensor(images, dtype=torch.float32) / 16
            shape = (-1, 64) if task == "digits" else (-1, 1, 8, 8)
            return TensorDataset(inputs.view(shape), torch.as_tensor(labels, dtype=torch.int64))
        case "table":
            columns, labels = load_breast_cancer(return_X_y=True)
            inputs = torch.as_tensor(columns, dtype=torch.float32)
            inputs = (inputs - inputs.mean(0)) / inputs.std(0)
            return TensorDataset(inputs, torch.as_tensor(labels, dtype=torch.int64))
        case "gaussian":
            generator = torch.Generator().manual_seed(0)
            scales = torch.arange(1.0, 51.0) ** -0.5  # the Hessian's eigenvalues fall as 1/k
            inputs = torch.randn(4096, 50, generator=generator) * scales
            noise = 0.3 * torch.randn(4096, 1, generator=generator)
            weights = torch.randn(50, 1, generator=generator)
            return TensorDataset(inputs, inputs @ weights + noise)
        case "characters":
            text = "\n".join(topics[name] for name in sorted(topics))
            codes = torch.frombuffer(bytearray(text.encode("ascii", "replace")), dtype=torch.uint8)
            count = (len(codes) - 1) // CONTEXT
            inputs = codes[: count * CONTEXT].long().view(count, CONTEXT)
            return TensorDataset(inputs, codes[1 : count * CONTEXT + 1].long().view(count, CONTEXT))
    raise ValueError(task)


def make_optimizer(model: nn.Module, optimizer: str) -> torch.optim.Optimizer:
    """Return the optimizer at a rate that says nothing: the range test must find its own."""
    match optimizer:
        case "sgd":
            return torch.optim.SGD(model.parameters(), lr=0.1)
        case "momentum":
            return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        case "adamw":
            return torch.optim.AdamW(model.parameters(), lr=1e-3)
    raise ValueError(optimizer)
