"""The count of tokens that a loss averages over is found by trying, or none is."""

import textwrap

import pytest
import torch

from advisor.training.data import TokenCount, WorkloadSpec
from advisor.training.loss_reduction import (
    count_tokens,
    find_token_count,
    measure_tokens_per_sample,
)
from advisor.training.model_file.workload import Workload

MODEL = """
import torch
from torch import nn
from torch.nn import functional

class Sentences(torch.utils.data.Dataset):
    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.ids = torch.randint(1, 32, (64, 12), generator=generator)
        self.lengths = torch.randint(2, 13, (64,), generator=generator)

    def __len__(self):
        return 64

    def __getitem__(self, index):
        kept = torch.arange(12) < self.lengths[index]
        ids = self.ids[index]
        return {"ids": ids * kept, "mask": kept.long(), "labels": ids.masked_fill(~kept, -100)}

def make_dataset():
    return Sentences()

def make_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(32, 16), nn.Linear(16, 32))

def loss_fn(model, batch):
"""
LABELS = """
    logits = model(batch["ids"]).transpose(1, 2)
    return functional.cross_entropy(logits, batch["labels"])
"""
SHIFTED = """
    logits = model(batch["ids"])[:, :-1].transpose(1, 2)
    return functional.cross_entropy(logits, batch["labels"][:, 1:])
"""
PADDED = """
    logits = model(batch["ids"]).transpose(1, 2)
    losses = functional.cross_entropy(logits, batch["ids"], reduction="none")
    return (losses * batch["mask"]).sum() / batch["mask"].sum()
"""
LENGTHS_SQUARED = """
    logits = model(batch["ids"]).transpose(1, 2)
    losses = functional.cross_entropy(logits, batch["labels"], reduction="none").sum(1)
    weights = batch["mask"].sum(1).float() ** 2
    return (losses * weights / batch["mask"].sum(1)).sum() / weights.sum()
"""
ALIKE = """
    logits = model(batch["ids"]).transpose(1, 2)
    losses = functional.cross_entropy(logits, batch["labels"], reduction="none").sum(1)
    return (losses / batch["mask"].sum(1)).mean()
"""


def make_workload(tmp_path, loss):
    path = tmp_path / "model.py"
    path.write_text(textwrap.dedent(MODEL) + loss)
    return Workload(WorkloadSpec(target=str(path), device="cpu"))


def test_targets_other_than_the_ignored_index_are_counted(tmp_path):
    workload = make_workload(tmp_path, LABELS)
    rule = find_token_count(workload)
    assert rule == TokenCount(tensor=2, ignored=-100)
    batch = workload.take(range(8))
    assert count_tokens(batch, rule) == float((batch["labels"] != -100).sum())


def test_a_next_token_loss_does_not_count_the_first_of_each_row(tmp_path):
    rule = find_token_count(make_workload(tmp_path, SHIFTED))
    assert rule == TokenCount(tensor=2, ignored=-100, is_shifted=True)


def test_a_mask_is_counted_where_no_index_is_ignored(tmp_path):
    workload = make_workload(tmp_path, PADDED)
    rule = find_token_count(workload)
    batch = workload.take(range(8))
    assert count_tokens(batch, rule) == float(batch["mask"].sum())


@pytest.mark.parametrize("loss", [LENGTHS_SQUARED, ALIKE])
def test_a_loss_that_no_count_explains_has_none(tmp_path, loss):
    assert find_token_count(make_workload(tmp_path, loss)) is None


def test_too_few_samples_tell_nothing(tmp_path):
    assert find_token_count(make_workload(tmp_path, LABELS), batch_multiple=16) is None


def test_the_mean_number_of_tokens_is_that_of_the_targets(tmp_path):
    workload = make_workload(tmp_path, LABELS)
    expected = float((workload.take(range(64))["labels"] != -100).sum()) / 64
    assert measure_tokens_per_sample(workload) == pytest.approx(expected)


def test_samples_whose_answers_were_all_cut_off_have_no_known_number_of_tokens(tmp_path):
    make_workload(tmp_path, LABELS)
    path = tmp_path / "model.py"
    path.write_text(path.read_text().replace("ids.masked_fill(~kept, -100)", "ids * 0 - 100"))
    cut = Workload(WorkloadSpec(target=str(path), device="cpu"))
    assert float(cut.take(range(8))["labels"].max()) == -100.0
    assert measure_tokens_per_sample(cut) is None


def test_images_have_no_tokens():
    workload = Workload(WorkloadSpec(target="tests/workloads/good/mean_squared_error.py"))
    assert measure_tokens_per_sample(workload) is None


def test_synthetic_data_has_no_tokens():
    workload = Workload(WorkloadSpec(target="tests/workloads/good/make_batch_only.py"))
    assert measure_tokens_per_sample(workload) is None


def test_all_tokens_ignored_count_nothing():
    batch = (torch.zeros(2, 3), torch.full((2, 3), -100))
    assert count_tokens(batch, TokenCount(tensor=1, ignored=-100)) == 0.0
