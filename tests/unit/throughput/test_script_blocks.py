"""Blocks of a script's steps, by a stream whose optimizer's share is made up."""

import itertools
import time
from types import SimpleNamespace

import pytest
import torch

from advisor.throughput.data import ThroughputTask
from advisor.throughput.measure_script import LoopBlocks
from advisor.training.data import WorkloadSpec
from advisor.training.observer import Step


@pytest.mark.parametrize(("optimizer_s", "is_told"), [(1e-9, True), (100.0, False)])
def test_passes_are_told_only_where_they_take_time(optimizer_s, is_told):
    task = ThroughputTask(
        workload=WorkloadSpec(target="train.py", device="cpu"),
        micro_batch_sizes=(4,),
        session=0,
        block_s=0.004,
        rounds=2,
        budget_s=10.0,
    )

    class Stream:
        """The windows come one after the other, each at once."""

        def time_steps(self, count, *, every=1, splits=False):
            groups = count // every
            ends_s = [time.perf_counter() + 0.001 * n for n in range(1, groups + 1)]
            return SimpleNamespace(ends_s=ends_s, optimizer_s=optimizer_s if splits else 0.0)

    blocks = LoopBlocks(torch.device("cpu"), task, None)
    blocks.attach(Stream())
    for number in itertools.count(1):
        time.sleep(0.001)
        if not blocks.after_step(Step(number=number, samples=4, micro_batches=1)):
            break
    assert len(blocks.timed.blocks) == task.rounds
    assert bool(blocks.timed.micro_step_times_s) is is_told
    assert all(each > 0.0 for each in blocks.timed.micro_step_times_s)
