"""What a loss does with its samples is told by its values alone, whatever batch they are in."""

import textwrap

import pytest

from advisor.training.data import WorkloadSpec
from advisor.training.loss_reduction import classify_loss
from advisor.training.model_file.workload import Workload

FILE = """
import random
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_sequence, pad_sequence

GENERATOR = torch.Generator().manual_seed(0)
SERIES = [torch.randn(3 + 5 * i % 11, 4, generator=GENERATOR) for i in range(64)]

def make_dataset():
    return [(series, torch.tensor(i % 3)) for i, series in enumerate(SERIES)]

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.gru = nn.GRU(4, 8, batch_first={batch_first})
        self.out = nn.Linear(8, 3)

    def forward(self, series):
        return self.out(self.gru(series)[1][0])

def make_model():
    return Model()
"""
PADDED = """
def collate_fn(samples):
    series, labels = zip(*samples)
    return pad_sequence(series, batch_first=True), torch.stack(labels)
"""
TIME_FIRST = PADDED.replace("batch_first=True", "batch_first=False")
#: The padding of the whole batch reaches into each sample's loss.
OVER_PADDING = """
def loss_fn(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1], reduction="{reduction}")
"""
PACKED = """
def collate_fn(samples):
    series, labels = zip(*samples)
    return {"series": pack_sequence(series, enforce_sorted=False), "labels": torch.stack(labels)}

def loss_fn(model, batch):
    return functional.cross_entropy(model(batch["series"]), batch["labels"])
"""
CONCATENATED = """
class Bag:
    def __init__(self, rows, owners, labels):
        self.rows, self.owners, self.labels = rows, owners, labels

def collate_fn(samples):
    series, labels = zip(*samples)
    owners = torch.cat([torch.full((len(each),), place) for place, each in enumerate(series)])
    return Bag(torch.cat(series), owners, torch.stack(labels))

def loss_fn(model, batch):
    rows = model.out(torch.tanh(model.gru.weight_ih_l0[:8] @ batch.rows.T).T)
    pooled = torch.zeros(len(batch.labels), 3).index_add(0, batch.owners, rows)
    return functional.cross_entropy(pooled, batch.labels)
"""
COUNTED = """
def collate_fn(samples):
    series, labels = zip(*samples)
    names = [str(int(label)) for label in labels]
    padded = pad_sequence(series, batch_first=True)
    return {"series": padded, "names": names, "count": len(samples)}

def loss_fn(model, batch):
    labels = torch.tensor([int(name) for name in batch["names"]])
    losses = functional.cross_entropy(model(batch["series"]), labels, reduction="sum")
    return losses / batch["count"]
"""
DRAWN = """
def make_dataset():
    class Drawn:
        def __len__(self):
            return 64
        def __getitem__(self, index):
            scale = random.lognormvariate(0, 2)
            return scale * torch.randn(5, 4), torch.tensor(index % 3)
    return Drawn()

def loss_fn(model, batch):
    return (batch[0].mean(1) @ model.out.weight.T[:4]).square().sum(1).{reduction}()
"""
PENALTY = """
def loss_fn(model, batch):
    penalty = sum(each.square().sum() for each in model.parameters())
    errors = functional.cross_entropy(model(batch[0]), batch[1], reduction="{reduction}")
    return errors + {weight} * penalty
"""
NOISY = """
def loss_fn(model, batch):
    noise = torch.randn(batch[0].shape)
    losses = functional.cross_entropy(
        model(batch[0] + noise), batch[1], reduction="{reduction}")
    return losses
"""
POPPED = """
def loss_fn(model, batch):
    labels = batch.pop("labels")
    batch["series"].mul_(0.5)
    return functional.cross_entropy(model(batch.pop("series")), labels)

def collate_fn(samples):
    series, labels = zip(*samples)
    return {"series": pad_sequence(series, batch_first=True), "labels": torch.stack(labels)}
"""
BFLOAT16 = """
def make_model():
    return Model().to(torch.bfloat16)

def loss_fn(model, batch):
    return functional.cross_entropy(model(batch[0].bfloat16()), batch[1], reduction="{reduction}")
"""
AUTOCAST = """
def loss_fn(model, batch):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model.out(torch.relu(batch[0].mean(1) @ model.gru.weight_ih_l0[:8].T))
        return functional.cross_entropy(logits.float(), batch[1], reduction="{reduction}")
"""
PAIRED = """
def loss_fn(model, batch):
    embedded = functional.normalize(model(batch[0]), dim=1)
    return functional.cross_entropy(embedded @ embedded.T, torch.arange(len(embedded)))
"""


#: After torchvision's detectors: losses in train mode, predictions in eval mode.
DETECTOR = """
class Detector(Model):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, series, labels):
        scores = self.norm(super().forward(series))
        if not self.training:
            return [{{"scores": each}} for each in scores]
        return {{"class": functional.cross_entropy(scores, labels, reduction="{reduction}")}}

def make_model():
    return Detector()

def loss_fn(model, batch):
    return sum(model(*batch).values())
"""


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (PADDED + DETECTOR.format(reduction="mean"), "mean"),
        (PADDED + DETECTOR.format(reduction="sum"), "sum"),
        (PADDED + OVER_PADDING.format(reduction="mean"), "mean"),
        (PADDED + OVER_PADDING.format(reduction="sum"), "sum"),
        (TIME_FIRST + OVER_PADDING.format(reduction="mean"), "mean"),
        (TIME_FIRST + OVER_PADDING.format(reduction="sum"), "sum"),
        (PACKED, "mean"),
        (CONCATENATED, "mean"),
        (COUNTED, "mean"),
        (DRAWN.format(reduction="mean"), "mean"),
        (DRAWN.format(reduction="sum"), "sum"),
        (PADDED + PENALTY.format(reduction="sum", weight=0.1), "sum"),
        (PADDED + PENALTY.format(reduction="sum", weight=100), "sum"),
        (PADDED + PENALTY.format(reduction="mean", weight=100), "mean"),
        (PADDED + NOISY.format(reduction="mean"), "mean"),
        (PADDED + NOISY.format(reduction="sum"), "sum"),
        (POPPED, "mean"),
        (PADDED + BFLOAT16.format(reduction="mean"), "mean"),
        (PADDED + BFLOAT16.format(reduction="sum"), "sum"),
        (PADDED + AUTOCAST.format(reduction="mean"), "mean"),
        (PADDED + AUTOCAST.format(reduction="sum"), "sum"),
        (PADDED + PAIRED, "coupled"),
    ],
)
def test_the_class_of_a_loss_is_seen_in_any_batch(tmp_path, source, expected):
    batch_first = "batch_first=False" not in source
    path = tmp_path / "model_file.py"
    path.write_text(textwrap.dedent(FILE).format(batch_first=batch_first) + source)
    assert classify_loss(Workload(WorkloadSpec(target=str(path), device="cpu"))) == expected
