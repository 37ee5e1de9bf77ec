import pytest
import torch
from torch import nn

from advisor.predict.data import TraceTask
from advisor.predict.trace.steps import choose_foreach
from advisor.predict.trace.storage import StorageTracker
from advisor.training.data import WorkloadSpec


def record(function, *held):
    """Return (size, operator) of every allocation, and the events."""
    tracker = StorageTracker()
    with tracker:
        tracker.hold(held, "parameter")
        tracker.mark("forward", 1)
        kept = function()
        trace = tracker.finish(1)
    del kept
    sizes = [block.fixed_bytes for block in trace.blocks]
    return list(zip(sizes, trace.made_by, strict=True)), trace.events


def block_of(trace, operator):
    return trace.blocks[trace.made_by.index(operator)]


def test_views_and_in_place_operators_allocate_nothing():
    x = torch.zeros(8)
    blocks, events = record(lambda: x.view(2, 4).add_(1).t()[0].mul_(2), x)
    assert blocks == [(32, "")]
    assert events == (0,)


def test_a_storage_is_freed_when_its_last_view_is():
    def work():
        view = torch.ones(10)[2:4]
        other = torch.ones(20)
        del view
        return other, torch.ones(30)

    assert record(work)[1] == (0, 1, -1, 2)


def test_an_out_variant_that_resizes_is_an_allocation():
    blocks, _ = record(lambda: torch.add(torch.ones(4), 1, out=torch.empty(0)))
    assert [size for size, _ in blocks] == [16, 16]


def test_resizing_puts_a_new_block_in_place_of_the_old():
    def work():
        x = torch.ones(4)
        x.resize_(100)
        return x.resize_(0).untyped_storage().resize_(0)

    blocks, events = record(work)
    assert [size for size, _ in blocks] == [16, 400]
    assert events[:3] == (0, 1, -1)


def test_a_storage_emptied_by_an_operator_is_freed():
    x, empty = torch.ones(4), torch.empty(0)

    def work():
        x.untyped_storage().resize_(0)
        x.set_(empty)
        return x

    _, events = record(work, x)
    assert events == (0, -1)


def test_sparse_tensors_are_their_indices_and_values():
    def work():
        return torch.sparse_coo_tensor(
            torch.zeros(1, 3, dtype=torch.int64), torch.ones(3), (9,), check_invariants=False
        )

    blocks, _ = record(work)
    assert sorted(size for size, _ in blocks)[-2:] == [12, 24]


def sums(work):
    """Return the operators that allocate in the backward pass of what `work` returns."""
    x = torch.ones(6, requires_grad=True)
    tracker = StorageTracker()
    with tracker:
        tracker.mark("forward", 1)
        loss = work(x).sum()
        tracker.mark("backward", 1)
        loss.backward()
        trace = tracker.finish(1)
    begun = trace.phases[-1].first_event
    made = [trace.made_by[event] for event in trace.events[begun:] if event >= 0]
    return [operator.split(".")[1] for operator in made]


def true_additions(work):
    """Return the same list by the allocator, without any mode, as sizes."""
    from torch.profiler import ProfilerActivity, profile

    x = torch.ones(6, requires_grad=True)
    loss = work(x).sum()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        loss.backward()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    return [event.nbytes() for event in events if event.nbytes() > 0]


class PlusOne(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x + 1

    @staticmethod
    def backward(ctx, gradient):
        return gradient + gradient


def square(x):
    return x * x


def branch(x):
    return x * x + x + x.exp()


@pytest.mark.parametrize(
    "work",
    [
        lambda x: x.sin() + x.cos(),
        lambda x: x.sin() + x,
        lambda x: square(x.sin()),
        lambda x: branch(x.sin()),
        lambda x: PlusOne.apply(x.sin()),
        lambda x: PlusOne.apply(x.sin()) + x.sin().cos(),
    ],
)
def test_gradients_are_summed_in_place_as_without_a_mode(work):
    assert len(sums(work)) == len(true_additions(work))


def test_modules_called_outside_of_the_model_are_their_callers():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(2, 2)
            self.__dict__["hidden"] = nn.ReLU()

        def forward(self, x):
            return self.hidden(self.inner(x))

    model = Model()
    tracker = StorageTracker(model)
    with tracker:
        tracker.mark("forward", 1)
        output = model(torch.ones(1, 2))
        trace = tracker.finish(1)
    del output
    assert trace.modules[block_of(trace, "aten.addmm.default").module] == "inner"
    assert trace.modules[block_of(trace, "aten.relu.default").module] == ""


def test_a_failing_module_leaves_no_trace_in_the_next():
    class Fails(nn.Module):
        def forward(self, x):
            raise LookupError

    model = nn.ModuleList([Fails(), nn.ReLU()])
    tracker = StorageTracker(model)
    with tracker:
        tracker.mark("forward", 1)
        with pytest.raises(LookupError):
            model[0](torch.ones(1))
        output = model[1](torch.ones(3))
        outside = torch.ones(5)
        trace = tracker.finish(1)
    del output, outside
    assert block_of(trace, "aten.relu.default").module == 2
    assert trace.blocks[-1].module == -1


@pytest.mark.parametrize(
    ("operators", "foreach", "chosen", "expected"),
    [
        ("cuda", None, None, True),
        ("cuda", None, False, False),
        ("cpu", None, None, None),
        ("cpu", True, False, True),
        ("cuda", False, None, False),
    ],
)
def test_foreach_follows_the_device_then_the_user_then_the_what_if(
    operators, foreach, chosen, expected
):
    optimizer = torch.optim.Adam([nn.Parameter(torch.ones(1))], foreach=chosen)
    spec = WorkloadSpec(target="none.py", device="cpu")
    choose_foreach(optimizer, TraceTask(workload=spec, operators=operators, foreach=foreach))
    assert optimizer.param_groups[0]["foreach"] is expected


def test_a_wrapping_tensor_is_what_it_holds():
    from torch.testing._internal.two_tensor import TwoTensor

    pair = TwoTensor(torch.ones(4), torch.ones(4))
    blocks, _ = record(lambda: pair * 2)
    assert blocks == [(16, "aten.mul.Tensor")] * 2


def test_a_tensor_that_an_operator_empties_is_freed_and_one_it_fills_again_is_new():
    source, x = torch.empty(0), torch.ones(4)

    def work():
        x.untyped_storage().resize_(0)  # not seen: no operator
        x.resize_(0)
        x.resize_(6)
        return x.add_(1)

    blocks, events = record(work, x)
    assert [size for size, _ in blocks] == [16, 24]
    assert events == (0, -1, 1)
    assert not source.numel()


def test_nothing_is_recorded_once_the_trace_is_finished():
    tracker = StorageTracker()
    with tracker:
        tracker.mark("forward", 1)
        trace = tracker.finish(1)
        torch.ones(4)
    assert trace.blocks == ()
    assert tracker.finish(1).events == ()
