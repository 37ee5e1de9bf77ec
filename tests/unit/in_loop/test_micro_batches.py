"""The gradients of a step's micro-batches are those of a loop that takes them one by one."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from advisor import NoiseScaleMonitor
from tests.unit.in_loop.seen import pool, train

SIZE = 4


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))


@pytest.fixture
def batches():
    torch.manual_seed(1)
    return [(torch.randn(SIZE, 6), torch.randn(SIZE, 1)) for _ in range(12)]


def lose(model, batch):
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def check(monitor, gradients, rel=1e-5):
    passes = gradients.shape[1]
    for entry, (sqnorm, total) in zip(monitor.entries, pool(gradients), strict=True):
        assert (entry.samples, entry.micro_batches) == (passes * SIZE, passes)
        assert entry.micro_batch_sqnorm == pytest.approx(sqnorm, rel=rel)
        assert entry.mean_sqnorm == pytest.approx(total, rel=rel)


def test_with_accumulation(model, batches):
    monitor, gradients = train(model, lambda k: (lose(model, batches[k]) / 3).backward())
    check(monitor, gradients)
    assert [entry.at_step for entry in monitor.entries] == [0, 1]


def test_with_gradients_that_are_cleared_to_zero(model, batches):
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    monitor, gradients = train(model, lambda k: lose(model, batches[k]).backward())
    check(monitor, gradients)


def test_before_clipping(model, batches):
    monitor, gradients = train(
        model,
        lambda k: lose(model, batches[k]).backward(),
        before_step=lambda: nn.utils.clip_grad_norm_(model.parameters(), 1e-3),
    )
    check(monitor, gradients)


@pytest.mark.parametrize("is_reentrant", [False, True])
def test_with_checkpointing(model, batches, is_reentrant):
    def run(k):
        inputs = batches[k][0].requires_grad_()
        hidden = checkpoint(model[:2], inputs, use_reentrant=is_reentrant)
        nn.functional.mse_loss(model[2](hidden), batches[k][1]).backward()

    monitor, gradients = train(model, run)
    check(monitor, gradients)


def test_with_a_scaled_loss_and_steps_that_are_left_out(model, batches):
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with NoiseScaleMonitor(model, optimizer, every=1) as monitor:
        for step in range(4):
            optimizer.zero_grad()
            for k in range(3):
                loss = lose(model, batches[3 * step + k])
                if step == 1:
                    loss = loss * float("inf")
                scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
            scaler.step(optimizer)
            scaler.update()
    assert scaler.get_scale() == 2.0**11
    del batches[3:6]  # whose step was left out
    _, gradients = train(model, lambda k: lose(model, batches[k]).backward(), steps=3)
    # The step that was left out is part of the next, whose gradients begin at nothing again.
    check(monitor, gradients)
    assert torch.amp.GradScaler.scale.__qualname__ == "GradScaler.scale"


def test_gradients_of_another_loss_that_are_cleared_do_not_count(model, batches):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with NoiseScaleMonitor(model, optimizer, every=1) as monitor:
        for _ in range(2):
            lose(model, batches[11]).backward()
            optimizer.zero_grad()
            for k in range(3):
                lose(model, batches[k]).backward()
            optimizer.step()
    _, gradients = train(model, lambda k: lose(model, batches[k % 3]).backward())
    check(monitor, gradients)


def test_two_losses_of_one_batch_are_no_micro_batches(model, batches):
    def run(k):
        outputs = model(batches[k][0])
        outputs.square().mean().backward(retain_graph=True)
        outputs.mean().backward()

    monitor, _ = train(model, run, passes=1, steps=1)
    assert monitor.entries == ()


def test_one_pass_without_a_normalisation_layer_tells_nothing_and_says_so(model, batches):
    monitor, _ = train(model, lambda k: lose(model, batches[k]).backward(), passes=1)
    assert monitor.entries == ()
    assert "no normalisation layer" in str(monitor)


def test_micro_batches_of_several_sizes_are_passed_over(model, batches):
    batches[1] = (batches[1][0][:3], batches[1][1][:3])
    monitor, _ = train(model, lambda k: lose(model, batches[k]).backward())
    assert [entry.at_step for entry in monitor.entries] == [1]


def test_a_parameter_that_some_passes_leave_out_and_a_frozen_one(batches):
    torch.manual_seed(0)
    experts = nn.ModuleList([nn.Linear(6, 1) for _ in range(3)])
    experts[2].requires_grad_(False)

    def run(k):
        nn.functional.mse_loss(experts[k % 2](batches[k][0]), batches[k][1]).backward()

    monitor, gradients = train(experts, run)
    check(monitor, gradients)


def test_sparse_gradients():
    torch.manual_seed(0)
    model = nn.EmbeddingBag(10, 3, sparse=True)
    words = torch.randint(0, 10, (6, SIZE, 5))

    def run(k):
        model(words[k]).square().mean().backward()

    monitor, gradients = train(model, run)
    check(monitor, gradients)


@pytest.mark.parametrize("options", [{}, {"batch_size": SIZE}], ids=["compiled", "inside"])
def test_a_model_that_is_compiled_is_not_compiled_again(model, batches, options):
    graphs = []
    compiled = torch.compile(model, backend=lambda graph, _: graphs.append(graph) or graph.forward)
    lose(compiled, batches[0]).backward()
    model.zero_grad()
    watched = model if options else compiled
    monitor, gradients = train(watched, lambda k: lose(compiled, batches[k]).backward(), **options)
    check(monitor, gradients)
    assert len(graphs) == 1


def test_nothing_is_left_behind(model, batches):
    monitor, _ = train(model, lambda k: lose(model, batches[k]).backward(), steps=1)
    assert not any(p._backward_hooks for p in model.parameters())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())
    assert not monitor._optimizer._optimizer_step_post_hooks
