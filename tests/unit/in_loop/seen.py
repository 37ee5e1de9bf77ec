"""A small training under a monitor, and what its steps show by hand."""

import torch

from advisor import NoiseScaleMonitor


def train(model, run_pass, *, steps=2, passes=3, before_step=lambda: None, **options):
    """Return what a monitor saw of a training whose parameters stay, and the gradients by hand.

    `run_pass(number)` runs a micro-batch forward and backward. The gradients are those that each
    pass adds, flat, by step and pass.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with NoiseScaleMonitor(model, optimizer, every=1, **options) as monitor:
        for step in range(steps):
            optimizer.zero_grad()
            for number in range(passes):
                run_pass(step * passes + number)
            before_step()
            optimizer.step()
    return monitor, take_by_hand(model, run_pass, steps, passes)


def take_by_hand(model, run_pass, steps, passes):
    taken = []
    for number in range(steps * passes):
        model.zero_grad()
        run_pass(number)
        taken.append(
            torch.cat(
                [
                    (torch.zeros_like(p) if p.grad is None else p.grad.to_dense()).flatten()
                    for p in model.parameters()
                ]
            )
        )
    return torch.stack(taken).double().unflatten(0, (steps, passes))


def pool(gradients):
    """Return the mean of |m_k|² and |ḡ|² of each step whose passes added these."""
    micro_batches = gradients.shape[1] * gradients
    sqnorms = micro_batches.square().sum(2).mean(1)
    return list(zip(sqnorms.tolist(), gradients.sum(1).square().sum(1).tolist(), strict=True))
