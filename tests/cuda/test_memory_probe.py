"""The largest batch on a card against loops written by hand under the same limit."""

import pytest

from advisor.engine.record import Conclusions
from advisor.memory.data import MemoryTask
from advisor.memory.plan import MEMORY
from tests.cuda.by_hand import LoopTask
from tests.cuda.conftest import MODELS, record_of, workload

MIB, GIB = 1 << 20, 1 << 30


def fits(run, name, size, capacity_bytes, **loop):
    task = LoopTask(
        path=str(MODELS / f"{name}.py"), batch_size=size, limit_bytes=capacity_bytes, **loop
    )
    (counted,) = run(task)
    return counted.allocated_bytes is not None


def search(name, precision, limit_bytes):
    """The memory stage's answer."""
    spec = workload(name, precision=precision)
    record = record_of(spec, "memory", memory_limit_bytes=limit_bytes, headroom_bytes=0)
    return Conclusions(record).of(MEMORY)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_largest_batch_holds_in_a_loop_with_fresh_batches_and_held_outputs(run, precision):
    memory = search("mlp", precision, GIB)
    size = memory.max_micro_batch_size
    assert memory.verified
    assert fits(run, "mlp", size, memory.capacity_bytes, precision=precision, steps=16)
    assert fits(run, "mlp", size, memory.capacity_bytes, precision=precision, holds_output=False)
    # Near the limit what fits is not monotone: blocks are rounded, and their order changes.
    assert not fits(run, "mlp", int(1.15 * size), memory.capacity_bytes, precision=precision)


def test_a_size_that_fits_for_one_batch_but_not_beside_held_gradients_is_not_accumulated(run):
    settings = {"width": "6000"}  # 45 M parameters: their gradients take 172 MiB

    def probe(capacity_mib):
        task = MemoryTask(
            workload=workload("mlp", settings=settings),
            micro_batch_size=9000,
            capacity_bytes=capacity_mib * MIB,
        )
        return run(task)[0]

    assert probe(1700).outcome == "oom"
    assert (probe(1950).outcome, probe(1950).accumulates) == ("fit", False)
    assert (probe(2150).outcome, probe(2150).accumulates) == ("fit", True)


def test_the_first_step_does_not_count_where_libraries_try_their_algorithms(run):
    """cuDNN's benchmark takes the largest workspace that it can get, once."""
    size = 32
    (plain,) = run(MemoryTask(workload=workload("conv"), micro_batch_size=size, capacity_bytes=GIB))
    assert plain.outcome == "fit"
    (tried,) = run(
        MemoryTask(
            workload=workload("conv", settings={"first_mib": "300"}),
            micro_batch_size=size,
            capacity_bytes=GIB,
        )
    )
    assert tried.forward_backward_peak_bytes == pytest.approx(
        plain.forward_backward_peak_bytes, rel=0.02
    )


def test_a_cap_of_the_users_own_stands(run):
    task = MemoryTask(workload=workload("capped"), micro_batch_size=30000, capacity_bytes=4 * GIB)
    (probe,) = run(task)
    assert probe.outcome == "oom"
    assert "1024.00 MiB allowed" in probe.message


def test_a_kernel_that_takes_no_larger_batch_ends_the_range_not_the_run(cards):
    cards()
    memory = search("attention", "bf16", 4 * GIB)
    assert memory.limited_by == "kernel"
    assert memory.max_micro_batch_size <= 65535
