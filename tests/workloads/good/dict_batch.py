"""Dict batches go in as keywords; the output object carries .loss, as Hugging Face models do it."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset


@dataclass
class Output:
    loss: Tensor | None
    logits: Tensor


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(32, 16)
        self.head = nn.Linear(16, 2)

    def forward(self, input_ids, attention_mask=None, labels=None):
        hidden = self.embedding(input_ids)
        if attention_mask is not None:
            hidden = hidden * attention_mask[..., None]
        logits = self.head(hidden.mean(1))
        loss = None if labels is None else functional.cross_entropy(logits, labels)
        return Output(loss=loss, logits=logits)


class Sentences(Dataset):
    """A dataset of dicts."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.tokens = torch.randint(32, (256, 12), generator=generator)
        self.labels = (self.tokens.sum(1) % 2).long()

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, index):
        tokens = self.tokens[index]
        mask = torch.ones_like(tokens)
        return {"input_ids": tokens, "attention_mask": mask, "labels": self.labels[index]}


def make_model():
    return Classifier()


def make_dataset():
    return Sentences()
