"""Batches of any structure are moved, counted, handed out and split without a change to them."""

import dataclasses
import sys
from collections import OrderedDict, UserDict, defaultdict
from types import MappingProxyType, SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import PackedSequence, pack_sequence
from torch.utils.data import default_collate

from advisor.training.data import WorkloadSpec
from advisor.training.inspection import inspect_workload
from advisor.training.model_file.batches import (
    UnsplittableError,
    count_fields,
    hand_out,
    map_tensors,
    pick_rows,
    tensors_of,
    to_device,
)

CPU = torch.device("cpu")


class Pair(NamedTuple):
    inputs: object
    targets: object


@dataclasses.dataclass(frozen=True)
class Frozen:
    inputs: object
    length: int = dataclasses.field(init=False, default=3)

    def __post_init__(self):
        assert isinstance(self.inputs, object)


class Slotted:
    __slots__ = ("data", "unset")

    def __init__(self, data):
        self.data = data


class Loose(dict):
    """Takes any attribute for a key, as configuration dictionaries do."""

    def __getattr__(self, name):
        return self[name]


class MovesInPlace:
    def __init__(self, data):
        self.data, self.moved = data, False

    def to(self, device):
        self.moved = True


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(allow_nan=False),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.sampled_from(
        [
            torch.zeros(2, 3),
            torch.zeros(0, 3),
            torch.tensor(1.0),
            torch.zeros(2, dtype=torch.bfloat16),
            torch.zeros(2, dtype=torch.complex64),
            torch.eye(3).to_sparse(),
            torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)], layout=torch.jagged),
            pack_sequence([torch.zeros(3, 1), torch.zeros(2, 1)]),
            int,
            len,
            CPU,
        ]
    ),
)
keys = st.text("ab", min_size=1, max_size=2)
structures = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
        st.dictionaries(keys, inner, max_size=3).map(OrderedDict),
        st.dictionaries(keys, inner, max_size=3).map(UserDict),
        st.dictionaries(keys, inner, max_size=3).map(Loose),
        st.dictionaries(keys, inner, max_size=3).map(MappingProxyType),
        st.dictionaries(keys, inner, max_size=3).map(lambda parts: defaultdict(list, parts)),
        st.tuples(inner, inner).map(lambda parts: Pair(*parts)),
        inner.map(Frozen),
        inner.map(Slotted),
        inner.map(lambda part: SimpleNamespace(part=part)),
        inner.map(MovesInPlace),
    ),
    max_leaves=12,
)


@settings(max_examples=100)
@given(structures)
def test_any_structure_is_handed_out_moved_and_counted(batch):
    tensors = list(tensors_of(batch))
    fresh = hand_out(batch)
    if not isinstance(batch, MappingProxyType):
        assert type(fresh) is type(batch)
    assert all(one is other for one, other in zip(tensors_of(fresh), tensors, strict=True))
    to_device(batch, CPU)
    assert all(count >= 0 for count in count_fields(batch).values())
    seen = []
    map_tensors(batch, lambda tensor: seen.append(tensor) or tensor)
    assert [id(tensor) for tensor in seen] == [id(tensor) for tensor in tensors]


FILE = """
import torch
from structure_under_test import SAMPLE

def make_model():
    return torch.nn.Linear(3, 1)

def make_dataset():
    return [SAMPLE] * 16

def collate_fn(samples):
    return list(samples)

def loss_fn(model, batch):
    return model(torch.ones(len(batch), 3)).square().mean()
"""


@settings(max_examples=40)
@given(structures)
def test_samples_of_any_structure_are_inspected(tmp_path_factory, structure):
    path = tmp_path_factory.getbasetemp() / "any_structure.py"
    path.write_text(FILE)
    sys.modules["structure_under_test"] = SimpleNamespace(SAMPLE=structure)
    spec = WorkloadSpec(target=str(path), device="cpu")
    facts = inspect_workload(spec, batch_multiple=1, without_steps=False)
    assert facts.loss_reduction == "mean"
    assert facts.dataset_size == 16


@pytest.mark.parametrize("kind", [dict, UserDict, OrderedDict, Loose])
def test_what_is_taken_out_of_a_batch_is_there_the_next_time(kind):
    batch = kind(a=torch.zeros(1), b=kind(c=torch.zeros(1)))
    for _ in range(2):
        taken = hand_out(batch)
        assert torch.equal(taken.pop("a"), torch.zeros(1))
        taken["b"].clear()
    assert set(batch) == {"a", "b"}
    assert set(batch["b"]) == {"c"}


def test_what_is_set_on_an_object_is_not_there_the_next_time():
    batch = (SimpleNamespace(x=torch.ones(1), more=[torch.ones(1)]), 3)
    taken = hand_out(batch)
    taken[0].x = None
    taken[0].more.append(None)
    assert torch.equal(batch[0].x, torch.ones(1))
    assert len(batch[0].more) == 1


def test_an_object_moves_itself_wherever_it_lies():
    inner = MovesInPlace(torch.zeros(1))
    moved = to_device({"inner": [inner], "packed": pack_sequence([torch.zeros(2)])}, CPU)
    assert moved["inner"][0] is inner
    assert inner.moved
    assert isinstance(moved["packed"], PackedSequence)


def test_a_circle_of_objects_ends():
    one, other = SimpleNamespace(data=torch.zeros(1)), SimpleNamespace()
    one.other, other.one = other, one
    assert next(tensors_of(hand_out(to_device(one, CPU)))) is one.data


def pick(samples, collate, rows):
    count = len(samples)
    one = samples[:1]
    return pick_rows(collate(samples), collate(one * count), collate(one * count * 2), rows, count)


SAMPLES = [
    {"image": torch.full((3, 4), float(i)), "label": i, "name": f"{i}", "box": (i, 2.0 * i)}
    for i in range(4)
]


@pytest.mark.parametrize("rows", [[0, 1], [2, 3], [0, 1, 0, 1], [3]])
def test_the_rows_of_a_batch_are_the_batch_of_the_rows(rows):
    found = pick(SAMPLES, default_collate, rows)
    expected = default_collate([SAMPLES[row] for row in rows])
    assert torch.equal(found["image"], expected["image"])
    assert torch.equal(found["label"], expected["label"])
    assert found["name"] == expected["name"]
    assert all(map(torch.equal, found["box"], expected["box"]))


def test_an_axis_that_happens_to_be_as_long_as_the_batch_is_left_alone():
    found = pick(SAMPLES, lambda samples: default_collate([s["image"].T for s in samples]), [1, 2])
    assert found.shape == (2, 4, 3)


@pytest.mark.parametrize(
    "collate",
    [
        lambda samples: torch.cat([sample["image"] for sample in samples]),
        lambda samples: torch.tensor([0, *(3 for _ in samples)]).cumsum(0),
        lambda samples: pack_sequence([sample["image"] for sample in samples]),
        lambda samples: {"elements": 3 * len(samples)},
    ],
)
def test_a_batch_that_runs_its_samples_together_is_not_split(collate):
    with pytest.raises(UnsplittableError):
        pick(SAMPLES, collate, [0, 1])
