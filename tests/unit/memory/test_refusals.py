"""Sizes that a model refuses whatever the memory end no search, and are not taken for memory."""

import pytest

from advisor.memory.data import Probe
from advisor.memory.plan import choose_next_micro_batch_size, conclude_memory
from advisor.memory.refusals import MOST_REFUSALS, may_run
from advisor.memory.search import SearchBounds

MIB = 1 << 20


def search(runs, *, largest=1999, base=32, capacity=1 << 40, multiple=1):
    """Return the probes of a search over sizes of which the model runs some."""
    bounds = SearchBounds(
        min_micro_batch_size=multiple,
        max_micro_batch_size=largest,
        batch_multiple=multiple,
        capacity_bytes=capacity,
        base_micro_batch_size=base,
    )
    probes = []
    while (size := choose_next_micro_batch_size(probes, bounds)) is not None:
        peak = 8 * MIB + size * MIB
        outcome = "refused" if not runs(size) else "oom" if peak > capacity else "fit"
        probes.append(
            Probe(
                stage="memory",
                session=len(probes),
                micro_batch_size=size,
                outcome=outcome,
                forward_backward_peak_bytes=peak if outcome == "fit" else None,
                message=None if outcome == "fit" else "the queue",
            )
        )
        assert len(probes) < 40
    found = conclude_memory(probes, bounds, headroom_bytes=0, dataset_size=largest)
    return found, probes


@pytest.mark.parametrize(
    ("runs", "largest", "ends"),
    [
        (lambda size: 512 % size == 0, 512, "model"),  # a queue
        (lambda size: size % 4 == 0, 1984, "dataset"),  # a reshape
        (lambda size: size <= 100, 64, "model"),  # a table
        (lambda size: size == 32, 32, "model"),
    ],
)
def test_the_search_goes_on_among_the_sizes_that_run(runs, largest, ends):
    found, probes = search(runs)
    assert (found.max_micro_batch_size, found.limited_by) == (largest, ends)
    assert found.refused
    assert found.refusal == "the queue"
    assert (found.ooms, found.smallest_failed) == (0, None)
    assert len(found.refused) <= MOST_REFUSALS
    for size in range(1, 2000):
        if may_run(size, probes) and size <= largest and size >= 32:
            assert runs(size) or size > found.max_micro_batch_size


def test_memory_still_ends_a_search_among_them():
    found, _ = search(lambda size: size % 4 == 0, capacity=700 * MIB)
    assert found.limited_by == "memory"
    assert 600 <= found.max_micro_batch_size <= 692
    found, _ = search(lambda size: 4096 % size == 0, capacity=700 * MIB)
    assert (found.max_micro_batch_size, found.limited_by) == (512, "memory")


def test_without_refusals_every_size_may_run():
    _, probes = search(lambda size: True)
    assert all(may_run(size, probes) for size in range(1, 2000))


@pytest.mark.parametrize(("samples", "largest"), [(2000, 666), (400, 133)])
def test_a_script_whose_data_end_early_is_searched_to_where_they_last(samples, largest):
    bounds = SearchBounds(
        min_micro_batch_size=1,
        max_micro_batch_size=samples,
        capacity_bytes=1 << 40,
        base_micro_batch_size=16,
    )
    probes = []
    while (size := choose_next_micro_batch_size(probes, bounds)) is not None:
        steps = samples // size
        probes.append(
            Probe(
                stage="memory",
                session=len(probes),
                micro_batch_size=size,
                outcome="fit" if steps >= 3 else "error",
                steps=min(steps, 3),
                forward_backward_peak_bytes=8 * MIB + size if steps >= 3 else None,
            )
        )
        assert len(probes) < 12
    found = conclude_memory(probes, bounds, headroom_bytes=0, dataset_size=samples)
    assert (found.max_micro_batch_size, found.limited_by) == (largest, "script")
