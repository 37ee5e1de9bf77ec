"""Steps that are frozen leave a training exactly as it would be without them."""

import copy

import pytest
import torch
from torch import nn

from advisor.training.script.stream import StepStream

_FROZEN = {3, 4, 5, 9}


class _Clearing:
    """Sees frozen gradients and clears them, as what sums them does."""

    def __init__(self, model):
        self._model = model
        self.norms = []

    def before_step(self, step):
        if step.number - 1 in _FROZEN:
            self.norms.append(float(self._model.weight.grad.norm()))
            self._model.zero_grad()

    def after_step(self, step):
        return True


def _train(model, optimizer, batches, *, has_closure, stream=None):
    """Train on the batches; with a stream, those that are frozen are seen and change nothing."""
    for number, batch in batches:

        def run(batch=batch):
            optimizer.zero_grad()
            loss = model(batch).square().mean()
            if stream is None:
                loss.backward()
            else:
                stream.run_backward(loss, loss.backward)
                stream.see_clipping(0.1)
            assert nn.utils.clip_grad_norm_(model.parameters(), 0.1) > 0.0  # one may log it
            return loss

        arguments = (optimizer, run) if has_closure else (optimizer,)
        if not has_closure:
            run()
        if stream is None:
            optimizer.step(*arguments[1:])
            continue
        stream.is_frozen = number in _FROZEN
        changed = stream.begin_step(optimizer, arguments, {})
        optimizer.step(*(arguments if changed is None else changed[0])[1:])
        stream.end_step(optimizer)
        stream.is_frozen = number + 1 in _FROZEN
        assert all(parameter.grad is not None for parameter in model.parameters())


class _Unchecked(torch.optim.Optimizer):
    """Expects a gradient of each parameter."""

    def __init__(self, parameters):
        super().__init__(parameters, {"lr": 0.1})

    def step(self, closure=None):
        if closure is not None:
            with torch.enable_grad():
                closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.add_(parameter.grad.data, alpha=-group["lr"])
                self.state[parameter]["norm"] = float(parameter.grad.norm())


@pytest.mark.parametrize("has_closure", [False, True], ids=["plain", "closure"])
@pytest.mark.parametrize(
    "make_optimizer",
    [
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1, amsgrad=True),
        lambda p: torch.optim.Adam(p, lr=0.1, fused=True),
        lambda p: torch.optim.RMSprop(p, lr=0.01, centered=True, momentum=0.5),
        lambda p: torch.optim.Adagrad(p, lr=0.1, lr_decay=0.1),
        _Unchecked,
    ],
    ids=["SGD", "AdamW", "fused", "RMSprop", "Adagrad", "unchecked"],
)
def test_parameters_and_state_are_bit_for_bit_those_of_a_run_that_skipped_the_batches(
    make_optimizer, has_closure
):
    torch.manual_seed(0)
    batches = list(enumerate(torch.randn(12, 8, 6)))
    skipping = nn.Linear(6, 4)
    frozen = copy.deepcopy(skipping)
    other, optimizer = (make_optimizer(model.parameters()) for model in (skipping, frozen))
    observer = _Clearing(frozen)
    stream = StepStream([observer], samples=8, most_steps=None)
    _train(skipping, other, [b for b in batches if b[0] not in _FROZEN], has_closure=has_closure)
    _train(frozen, optimizer, batches, has_closure=has_closure, stream=stream)
    assert len(observer.norms) == len(_FROZEN)
    assert min(observer.norms) > 0.1  # before they were clipped
    for one, same in zip(skipping.parameters(), frozen.parameters(), strict=True):
        assert torch.equal(one, same)
        for name, value in other.state[one].items():
            kept = optimizer.state[same][name]
            assert torch.equal(value, kept) if torch.is_tensor(value) else value == kept
    assert stream.trained == len(batches) - len(_FROZEN)
