"""Samples that come out the same twice are read once; others each time they are asked for."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from advisor.training.model_file import kept
from advisor.training.model_file.data import DatasetBatches


class Counted:
    """A dataset that counts its reads, and may draw something for each."""

    def __init__(self, draw=None, size=50):
        self.draw, self.size, self.reads = draw, size, []

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        self.reads.append(index)
        extra = 0.0 if self.draw is None else self.draw()
        return {"x": torch.full((3,), float(index)) + extra, "y": torch.tensor(index), "name": "s"}


def make_batches(dataset):
    batches = DatasetBatches(dataset, None)
    batches.keep_samples()
    dataset.reads.clear()
    return batches


@given(st.lists(st.lists(st.integers(0, 49), min_size=1, max_size=20), min_size=1, max_size=6))
def test_constant_samples_are_read_once_and_are_those_asked_for(asked):
    dataset = Counted()
    batches = make_batches(dataset)
    for indices in asked:
        batch = batches.take(indices)
        assert batch["y"].tolist() == indices
        assert batch["x"][:, 0].tolist() == [float(index) for index in indices]
    seen = {index for indices in asked for index in indices}
    assert sorted(dataset.reads) == sorted(seen)


@pytest.mark.parametrize("draw", [random.random, lambda: torch.randn(()).item()])
def test_samples_that_are_drawn_anew_are_read_each_time(draw):
    dataset = Counted(draw)
    batches = make_batches(dataset)
    first, second = batches.take([1, 2]), batches.take([1, 2])
    assert dataset.reads == [1, 2, 1, 2]
    assert not torch.equal(first["x"], second["x"])


def test_what_does_not_fit_is_read_again(monkeypatch):
    dataset = Counted()
    most = kept.count_keepable(lambda indices: [dataset[i] for i in indices], [0])
    monkeypatch.setattr(kept, "_MOST_BYTES", 5 * kept._MOST_BYTES // most)
    batches = make_batches(dataset)
    batches.take(range(8))
    batches.take(range(8))
    assert len(dataset.reads) == 8 + 3


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(3),
        torch.zeros(0, 2),
        torch.tensor([1 + 2j]),
        torch.ones(2, 2, dtype=torch.bfloat16).t(),
        torch.tensor([True]),
    ],
)
def test_any_dense_tensor_can_be_compared(tensor):
    assert kept.count_keepable(lambda _: [tensor], range(4)) > 0


def test_what_cannot_be_compared_is_not_kept():
    sparse = torch.eye(3).to_sparse()
    assert kept.count_keepable(lambda _: [sparse], [0]) == 0
    assert kept.count_keepable(lambda _: [lambda: 1], [0]) == 0
