"""Predicted peaks against what torch's allocator counts of a loop with fresh batches."""

import pytest

from advisor.device.catalogue import find_gpu
from advisor.engine.task import InspectTask
from benchmarks.table.by_hand import Loop, LoopsTask
from benchmarks.table.cells import compare, trace_all
from tests.cuda.conftest import workload

MIB = 1 << 20


def test_allocated_and_reserved_peaks_are_those_of_a_loop(run, server, cards):
    cards(multiprocessors=132)
    loops = tuple(
        Loop(kind="mlp", optimizer="adamw", precision=precision, size=4096)
        for precision in ("fp32", "bf16")
    )
    counted = run(LoopsTask(loops=loops))
    for loop, trace, each in zip(loops, trace_all(server, loops), counted, strict=True):
        row = compare(find_gpu("H100 SXM"), loop, trace, each)
        assert row["allocated_error_fraction"] == pytest.approx(0.0, abs=0.01)
        assert row["reserved_error_fraction"] == pytest.approx(0.0, abs=0.03)


def test_a_gradient_is_looked_for_in_no_more_samples_than_fit(run, cards):
    """Of 2 samples it is 0, as all numbers here are; 32 take 80 MiB, and do not fit."""
    cards(capability=80, memory_bytes=(500 + 64) * MIB)
    (facts,) = run(InspectTask(workload=workload("conv")))
    assert facts.has_zero_gradient
