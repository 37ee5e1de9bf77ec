"""What operators of CUDA take besides their results: buffers of sums, workspaces of products."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from advisor.predict.trace.lowering import lower_to_cuda
from advisor.predict.trace.scratch import size_workspace
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


def trace_loss(lose, size, *shapes, operators="cuda"):
    """The trace of a loss of fake tensors of these shapes and its gradients."""
    with FakeTensorMode() as mode, lower_to_cuda("fp32"):
        given = [mode.from_tensor(torch.zeros(shape)).requires_grad_() for shape in shapes]
        with StorageTracker(operators=operators) as tracker:
            tracker.hold(given, "parameter")
            tracker.mark("forward", 1)
            loss = lose(*given)
            tracker.mark("backward", 1)
            loss.backward()
            return tracker.finish(size)


def list_sizes(found, operator):
    return [
        block.fixed_bytes
        for block, made_by in zip(found.blocks, found.made_by, strict=True)
        if operator in made_by
    ]


@pytest.mark.parametrize("operators", ["cuda", "cpu"])
def test_a_softmax_of_what_is_not_contiguous_reads_a_copy(operators):
    def lose(scores):
        return scores.transpose(0, 1).log_softmax(dim=0).sum()

    found = trace_loss(lose, 3, (16, 256), operators=operators)
    own = 16 * 256 * 4
    copies = {"cuda": 1, "cpu": 0}[operators]
    assert list_sizes(found, "_log_softmax.default") == [own] * (1 + copies)


@pytest.mark.parametrize("is_bag", [False, True])
def test_the_gradient_of_a_table_has_buffers_that_follow_the_indices(is_bag):
    def trace_table(size):
        look_up = functional.embedding_bag if is_bag else functional.embedding
        options = {"mode": "sum"} if is_bag else {}

        def lose(table):
            return look_up(torch.zeros(size, 8, dtype=torch.long), table, **options).square().sum()

        return trace_loss(lose, size, (100, 16))

    merged = merge_traces(trace_table(3), trace_table(5))
    (gradient,) = merged.embeddings
    assert (gradient.indices, gradient.rows, gradient.width) == ((0, 8), 100, 16)
    assert gradient.is_bag == is_bag
    assert merged.blocks[gradient.block].fixed_bytes == 0


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("targets", "longest"), [((4, 9), 9), ((30,), 8)])
def test_the_loss_of_alignments_keeps_the_prefixes_and_makes_the_suffixes(
    reduction, targets, longest
):
    def lose(log_probs):
        wanted = torch.ones(targets, dtype=torch.long)
        lengths = [torch.full((4,), each, dtype=torch.long) for each in (50, 7)]
        loss = functional.ctc_loss(log_probs, wanted, *lengths, reduction=reduction)
        assert loss.shape == ((4,) if reduction == "none" else ())
        return loss.sum()

    found = trace_loss(lose, 4, (50, 4, 20))
    kept = 4 * 4 * 50 * (2 * longest + 1)
    assert kept in list_sizes(found, "new_empty")
    assert set(list_sizes(found, "empty_like")) >= {kept, 4 * 50 * 4 * 20}


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


def test_convolutions_take_a_workspace_only_where_cudnn_tries_algorithms(monkeypatch):
    def lose(source, weight, bias):
        return functional.conv2d(source, weight, bias, padding=1).sum()

    shapes = ((2, 4, 8, 8), (4, 4, 3, 3), (4,))
    workspace = 2 * (2 * 4 * 8 * 8) * 4 * 36 // 16
    for tries in (False, True):
        monkeypatch.setattr(torch.backends.cudnn, "benchmark", tries)
        found = trace_loss(lose, 2, *shapes)
        count = list_sizes(found, "convolution").count(workspace)
        assert count == (3 if tries else 0)  # the output, and the gradients of both factors
        (bias,) = (size for size in list_sizes(found, "convolution_backward") if size == 16)
        assert bias == 4 * 4


def test_the_workspace_holds_input_and_output_transformed(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    source, output = torch.empty(2, 4, 8, 8), torch.empty(2, 6, 8, 8)
    values = source.numel() + output.numel()
    assert size_workspace(source, output, torch.empty(6, 4, 3, 3), 1) == values * 4 * 36 // 16
    assert size_workspace(source, output, torch.empty(6, 4, 1, 1), 1) == 0
    assert size_workspace(source, output, torch.empty(6, 2, 3, 3), 2) == 0
    assert size_workspace(source.half(), output, torch.empty(6, 4, 3, 3), 1) == 0
