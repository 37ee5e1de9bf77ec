"""A batch that the user keeps to is refused early where it cannot be run."""

import msgspec
import pytest

from advisor.errors import UsageError
from advisor.memory.given_batch import (
    find_given_micro_batch,
    refuse_impossible_batch,
    refuse_oversized_batch,
)
from tests.unit.noise.streamed import make_run
from tests.unit.samples import FACTS


def prepare(changes=None, **limits):
    return make_run(facts=msgspec.structs.replace(FACTS, **(changes or {})), **limits)[0]


@pytest.mark.parametrize(
    ("changes", "limits", "words"),
    [
        ({"dataset_size": 90}, {"global_batch_size": 91}, "above the dataset, which has 90"),
        ({"min_micro_batch_size": 2}, {"global_batch_size": 1}, "below 2, the smallest batch"),
        ({}, {"global_batch_size": 100, "batch_multiple": 8}, "no multiple of --batch-multiple 8"),
    ],
)
def test_a_batch_that_cannot_exist_is_a_wrong_usage(changes, limits, words):
    with pytest.raises(UsageError, match=words) as caught:
        refuse_impossible_batch(prepare(changes, **limits))
    assert caught.value.next_step.startswith("Give ")


@pytest.mark.parametrize(
    ("changes", "size", "words", "step"),
    [
        ({}, 2053, "no micro-batch up to 1024", "such as 2048"),
        ({"loss_reduction": "coupled"}, 2048, "cannot be split", "at most 1024"),
    ],
)
def test_a_batch_that_does_not_fit_nor_divide_is_a_wrong_usage(changes, size, words, step):
    run = prepare({"min_micro_batch_size": 2, **changes}, global_batch_size=size)
    refuse_impossible_batch(run)
    with pytest.raises(UsageError, match=words) as caught:
        refuse_oversized_batch(run)
    assert step in caught.value.next_step
    assert find_given_micro_batch(run) is None


@pytest.mark.parametrize(("size", "micro"), [(None, None), (1024, 1024), (3000, 1000), (96, 96)])
def test_the_largest_micro_batch_that_makes_the_batch_is_found(size, micro):
    run = prepare(global_batch_size=size)
    refuse_impossible_batch(run)
    refuse_oversized_batch(run)
    assert find_given_micro_batch(run) == micro


def test_before_the_memory_is_known_there_is_none():
    run = prepare(global_batch_size=96)
    run.record = msgspec.structs.replace(run.record, probes=())
    refuse_oversized_batch(run)
    assert find_given_micro_batch(run) is None
