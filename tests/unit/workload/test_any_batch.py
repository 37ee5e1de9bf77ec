"""Random batches whose every part is known: counted, moved, split and trained on as they should."""

import dataclasses
import sys
from collections import OrderedDict, UserDict
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pack_sequence, pad_sequence

from advisor.engine.task import InspectTask
from advisor.engine.wire import failure_of
from advisor.engine.worker.failure import explain
from advisor.training.data import WorkloadSpec
from advisor.training.inspection import inspect_workload
from advisor.training.model_file.batches import (
    UnsplittableError,
    count_fields,
    hand_out,
    pick_rows,
    tensors_of,
    to_device,
)

COUNT = 4
QUICK = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])


class Pair(NamedTuple):
    first: object
    second: object


@dataclasses.dataclass(frozen=True)
class Frozen:
    first: object
    second: object


class Slotted:
    __slots__ = ("first", "second")

    def __init__(self, first, second):
        self.first, self.second = first, second


class Part(NamedTuple):
    """A part of a sample.

    Attributes:
        make: Returns that of the sample of a number.
        collate: Makes that of a batch of those of its samples.
        splits: Whether rows of a batch can be told apart.
        size: Elements, characters and numbers of a batch of `COUNT`.
        nbytes: Of its tensors.
    """

    make: object
    collate: object
    splits: bool
    size: int
    nbytes: int = 0


def identity(values):
    return list(values)


@st.composite
def dense(draw):
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    kinds = (torch.float32, torch.float64, torch.bfloat16, torch.complex64, torch.int64)
    dtype = draw(st.sampled_from([*kinds, torch.bool, torch.uint8]))
    numel = COUNT * int(np.prod(shape))
    return Part(
        lambda number: torch.full(shape, number).to(dtype),
        torch.stack,
        splits=True,
        size=numel,
        nbytes=numel * torch.zeros((), dtype=dtype).element_size(),
    )


def sequence(number):
    return torch.full((number % 3 + 1,), float(number))


LENGTH = sum(number % 3 + 1 for number in range(COUNT))
leaves = st.one_of(
    dense(),
    st.sampled_from(
        [
            Part(lambda number: None, identity, splits=True, size=COUNT),
            Part(lambda number: f"{number}ab", identity, splits=True, size=3 * COUNT),
            Part(lambda number: bytes([number]), identity, splits=True, size=COUNT),
            Part(float, torch.tensor, splits=True, size=COUNT, nbytes=4 * COUNT),
            Part(int, torch.tensor, splits=True, size=COUNT, nbytes=8 * COUNT),
            Part(int, len, splits=True, size=1),
            Part(int, lambda values: "v2", splits=True, size=2),
            Part(int, np.array, splits=True, size=COUNT),
            Part(int, lambda values: np.zeros(3), splits=True, size=3),
            Part(int, lambda values: np.zeros([2] * len(values)), splits=False, size=2**COUNT),
            Part(int, lambda values: float("nan"), splits=True, size=1),
            Part(sequence, identity, splits=True, size=LENGTH, nbytes=4 * LENGTH),
            Part(
                sequence,
                partial(pad_sequence, batch_first=True),
                splits=True,
                size=3 * COUNT,
                nbytes=12 * COUNT,
            ),
            Part(sequence, torch.cat, splits=False, size=LENGTH, nbytes=4 * LENGTH),
            Part(
                lambda number: (torch.eye(2) * number).to_sparse(),
                torch.stack,
                splits=True,
                size=4 * COUNT,
            ),
        ]
    ),
)


def combine(kind, parts):
    """A part that is a container or an object of two."""
    one, other = parts

    def collate(values):
        held = [values_of(value) for value in values]
        return kind(one.collate([a for a, _ in held]), other.collate([b for _, b in held]))

    return Part(
        lambda number: kind(one.make(number), other.make(number)),
        collate,
        one.splits and other.splits,
        one.size + other.size,
        one.nbytes + other.nbytes,
    )


def values_of(value):
    if isinstance(value, dict | UserDict):
        return value["first"], value["second"]
    if isinstance(value, list | tuple):
        return tuple(value)
    return value.first, value.second


KINDS = (
    lambda first, second: {"first": first, "second": second},
    lambda first, second: OrderedDict(first=first, second=second),
    lambda first, second: UserDict(first=first, second=second),
    lambda first, second: [first, second],
    lambda first, second: (first, second),
    lambda first, second: SimpleNamespace(first=first, second=second),
    Pair,
    Frozen,
    Slotted,
)
parts = st.recursive(
    leaves,
    lambda inner: st.builds(combine, st.sampled_from(KINDS), st.tuples(inner, inner)),
    max_leaves=6,
)


def batch_of(part, numbers):
    return part.collate([part.make(number) for number in numbers])


def check_same(one, other):
    """One is what the other is, but for the padding of what was cut out of a longer batch."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        one = one.to_dense()
        cut = one[tuple(slice(side) for side in other.shape)]
        assert torch.equal(cut, other.to_dense())
        assert len(one) == len(other)
        assert torch.count_nonzero(one) == torch.count_nonzero(other.to_dense())
    elif isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other)
    elif type(one) in {int, str, bytes, float, type(None)}:
        np.testing.assert_equal(one, other)  # which takes two NaN for equal
    elif isinstance(one, list | tuple) and not isinstance(one, Pair):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            check_same(a, b)
    else:
        for a, b in zip(values_of(one), values_of(other), strict=True):
            check_same(a, b)


@QUICK
@given(parts)
def test_what_is_counted_is_what_there_is(part):
    batch = batch_of(part, range(COUNT))
    assert sum(count_fields(batch).values()) == part.size
    dense_bytes = sum(
        each.numel() * each.element_size() for each in tensors_of(batch) if not each.is_sparse
    )
    assert dense_bytes == part.nbytes


@QUICK
@given(parts)
def test_every_tensor_is_moved_and_nothing_else_changes(part):
    batch = batch_of(part, range(COUNT))
    moved = to_device(batch, torch.device("meta"))
    assert all(each.is_meta for each in tensors_of(moved))
    assert not any(each.is_meta for each in tensors_of(batch))
    shapes = [[each.shape for each in tensors_of(one)] for one in (batch, moved)]
    assert shapes[0] == shapes[1]
    check_same(hand_out(batch), batch)


@QUICK
@given(parts, st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=2 * COUNT))
def test_rows_cut_out_of_a_batch_are_the_batch_of_these_samples(part, rows):
    ones = [0] * COUNT
    lots = (batch_of(part, numbers) for numbers in (range(COUNT), ones, 2 * ones))
    if not part.splits:
        with pytest.raises(UnsplittableError):
            pick_rows(*lots, rows, COUNT)
        return
    check_same(pick_rows(*lots, rows, COUNT), batch_of(part, rows))


FILE = """
import torch
from part_under_test import PART

def make_model():
    return torch.nn.Linear(3, 2)

def make_dataset():
    return [PART.make(number % 7) for number in range(16)]
"""
COLLATE = """
collate_fn = PART.collate
"""
LOSS = """
def loss_fn(model, batch):
    return model(torch.ones(2, 3)).square().mean()
"""


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,  # a structure in many hundreds takes all memory of the machine
)
@given(parts, st.booleans(), st.booleans())
def test_a_file_with_any_samples_is_understood_or_refused_with_a_way_on(
    tmp_path_factory, part, has_collate, has_loss
):
    path = tmp_path_factory.getbasetemp() / "any_part.py"
    path.write_text(FILE + COLLATE * has_collate + LOSS * has_loss)
    sys.modules["part_under_test"] = SimpleNamespace(PART=part)
    spec = WorkloadSpec(target=str(path), device="cpu")
    try:
        facts = inspect_workload(spec, batch_multiple=1, without_steps=False)
    except Exception as error:
        failure = failure_of(explain(error, InspectTask(workload=spec)))
        assert failure.kind == "WorkloadError", failure
        assert failure.next_step
        assert not (has_collate and has_loss and part.size > 4), failure
    else:
        assert facts.dataset_size == 16


def test_packed_and_nested_sequences_are_counted_moved_and_not_split():
    samples = [torch.ones(number % 3 + 1, 2) for number in range(COUNT)]
    for collate in (PACK, NEST):
        batch, ones, twos = (collate(each) for each in (samples, samples[:1] * 4, samples[:1] * 8))
        counted = count_fields({"it": batch})["it"]
        assert counted >= sum(each.numel() for each in samples)
        moved = to_device({"it": batch}, torch.device("cpu"))["it"]
        assert type(moved) is type(batch)
        with pytest.raises(UnsplittableError):
            pick_rows({"it": batch}, {"it": ones}, {"it": twos}, [0], COUNT)


PACK = partial(pack_sequence, enforce_sorted=False)
NEST = partial(torch.nested.nested_tensor, layout=torch.jagged)
