"""What operators of CUDA take besides their results: buffers of sums, workspaces of products."""

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from advisor.predict.trace.storage import StorageTracker
from advisor.predict.trace.symbolic import merge_traces


def trace(size, operators="cuda"):
    model = nn.Linear(64, 384)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = nn.Linear(64, 384)
        batch = mode.from_tensor(torch.zeros(7 * size, 64))
        with StorageTracker(model, operators=operators) as tracker:
            tracker.hold(fake.parameters(), "parameter")
            tracker.hold([batch], "input")
            tracker.mark("forward", 1)
            loss = fake(batch).square().sum()
            tracker.mark("backward", 1)
            loss.backward()
            return tracker.finish(size)


def test_the_sum_of_a_biass_gradient_has_a_buffer_that_follows_the_batch():
    merged = merge_traces(trace(3), trace(5))
    (reduction,) = merged.reductions
    assert (reduction.inputs, reduction.outputs) == ((0, 7), (384, 0))
    assert merged.blocks[reduction.block].fixed_bytes == 0
    start, end = (merged.events.index(each) for each in (reduction.block, -1 - reduction.block))
    assert all(event < 0 for event in merged.events[start + 1 : end])  # it is gone at once


def test_each_threads_first_product_takes_a_workspace_that_stays():
    merged = merge_traces(trace(3), trace(5))
    assert merged.workspaces is not None
    places = [merged.events.index(block) for block in merged.workspaces]
    starts = {mark.phase: mark.first_event for mark in merged.phases}
    assert starts["forward"] < places[0] < starts["backward"] < places[1]
    assert not {-1 - block for block in merged.workspaces} & set(merged.events)


def test_products_of_matrices_are_no_tf32_until_the_code_asks_for_it(monkeypatch):
    assert not trace(3).uses_tf32
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert trace(3).uses_tf32


def test_the_cpus_operators_take_none_of_it():
    found = trace(3, operators="cpu")
    assert (found.reductions, found.workspaces) == ((), None)
