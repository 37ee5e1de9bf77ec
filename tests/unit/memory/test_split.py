"""How a batch is made of micro-batches."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.memory.split import can_split, split_batch
from advisor.training.data import OptimizerFacts, WorkloadFacts


@given(st.integers(1, 5000), st.integers(1, 8), st.integers(1, 3000), st.integers(1, 4))
def test_a_batch_is_split_into_the_largest_size_that_divides_it(size, smallest, largest, multiple):
    parts = [
        part for part in range(smallest, largest + 1) if size % part == 0 and part % multiple == 0
    ]
    found = split_batch(size, largest=largest, smallest=smallest, multiple=multiple)
    assert found == ((max(parts), size // max(parts)) if parts else None)


@pytest.mark.parametrize(
    ("size", "expected"),
    [(64, (64, 1)), (96, (96, 1)), (512, (64, 8)), (192, (64, 3)), (150, (75, 2)), (101, None)],
)
def test_the_whole_batch_comes_first_then_the_preferred_micro_batch(size, expected):
    assert split_batch(size, largest=100, smallest=2, preferred=64) == expected


@pytest.mark.parametrize(
    ("size", "failed", "multiple", "least", "split"),
    [
        (64, 64, 1, 1, (32, 2)),
        (96, 48, 1, 1, (32, 3)),
        (96, 32, 1, 1, (24, 4)),
        (97, 97, 1, 1, (1, 97)),
        (97, 97, 1, 2, None),
        (48, 48, 16, 1, (16, 3)),
        (48, 16, 16, 1, None),
    ],
)
def test_the_same_batch_is_split_below_what_failed(size, failed, multiple, least, split):
    assert split_batch(size, largest=failed - 1, smallest=least, multiple=multiple) == split


def test_a_batch_that_cannot_be_split_is_whole_or_nothing():
    assert split_batch(128, largest=64, preferred=64, may_split=False) is None
    assert split_batch(64, largest=64, preferred=32, may_split=False) == (64, 1)


@pytest.mark.parametrize(
    ("changes", "optimizer", "expected"),
    [
        ({}, {}, True),
        ({}, {"needs_closure": True}, False),
        ({"is_step_only": True}, {}, False),
        ({"loss_reduction": "coupled"}, {}, False),
    ],
)
def test_steps_that_the_user_keeps_or_whose_loss_couples_cannot_be_split(
    changes, optimizer, expected
):
    facts = WorkloadFacts(
        file="m.py", model_name="Net", how_model="", how_loss="", how_optimizer="", how_batch="",
        optimizer=OptimizerFacts(name="SGD", learning_rate=1.0, **optimizer), **changes,
    )  # fmt: skip
    assert can_split(facts) is expected
    assert not can_split(msgspec.structs.replace(facts, optimizer=None))
