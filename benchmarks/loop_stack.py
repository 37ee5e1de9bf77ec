"""Many trainings of one batch size at once, for the tuned grid: each is a slice of every tensor.

A slice trains as the same pair trained alone does (tests/test_benchmarks.py), a dozen of them in
about the time of three. The optimizer is the task's own, over stacked parameters: those of the
tasks work element by element, and in proportion to the rate, by which each slice's change is
scaled.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from loop_trainings import BEYOND, END_SAMPLES, LOOK_SAMPLES, SMOOTHED_LOOKS, Curve, load, load_data
from loop_trainings import LOOK_FRACTION as FRACTION
from loops import scale_rate
from torch import nn
from torch.nn import functional


class Stack:
    """One training for each rate and seed."""

    def __init__(self, name: str, size: int, rates: Sequence[float], seeds: Sequence[int]) -> None:
        torch.set_num_threads(1)
        task = load(name)
        self._inputs, self._targets, self._shown = load_data(name)
        self._size, self._rates = size, torch.tensor(rates)
        places = {seed: place for place, seed in enumerate(dict.fromkeys(seeds))}
        self._places = torch.tensor([places[seed] for seed in seeds])
        self._generators = [torch.Generator().manual_seed(seed) for seed in places]
        models = []
        for seed in places:
            torch.manual_seed(seed)
            models.append(task.make_model())
        self._layers = models[0]
        self._weights = [
            torch.stack([parameter.detach() for parameter in each])[self._places].requires_grad_()
            for each in zip(*(model.parameters() for model in models), strict=True)
        ]
        self._optimizer = task.make_optimizer(self)
        self._middle = float(self._rates.log().mean().exp())
        for group in self._optimizer.param_groups:
            group["lr"] = self._middle
        self._order: list[torch.Tensor] = []

    def parameters(self) -> list[torch.Tensor]:
        """Return the stacked parameters, as a module would."""
        return self._weights

    def step(self, scales: torch.Tensor | float = 1.0) -> None:
        """Take one step of all, their rates multiplied with these."""
        if not self._order:
            count = len(self._inputs) // self._size * self._size
            orders = [
                torch.randperm(len(self._inputs), generator=each)[:count]
                for each in self._generators
            ]
            self._order = list(torch.stack(orders).split(self._size, dim=1))
        chosen = self._order.pop()[self._places]
        self._find_losses(self._inputs[chosen], self._targets[chosen]).sum().backward()
        before = [weight.detach().clone() for weight in self._weights]
        self._optimizer.step()
        self._optimizer.zero_grad()
        factors = self._rates / self._middle * scales
        with torch.no_grad():
            for weight, old in zip(self._weights, before, strict=True):
                shape = (-1, *[1] * (weight.dim() - 1))
                torch.lerp(old, weight, factors.view(shape).expand_as(weight), out=weight)

    def look(self, samples: int) -> np.ndarray:
        """Return the log losses on the first of a fixed order of the samples."""
        shown = self._shown[:samples]
        count = len(self._rates)
        with torch.no_grad():
            losses = torch.cat(
                [
                    self._find_losses(
                        self._inputs[part].expand(count, *self._inputs[part].shape),
                        self._targets[part].expand(count, *self._targets[part].shape),
                    )[None]
                    * len(part)
                    for part in shown.split(LOOK_SAMPLES)
                ]
            ).sum(0) / len(shown)
        logs = losses.log()
        return torch.where(logs.isfinite(), logs, torch.inf).double().numpy()

    def _find_losses(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        outputs = self._forward(inputs)
        if targets.is_floating_point():
            return (outputs - targets).square().flatten(1).mean(1)
        losses = functional.cross_entropy(
            outputs.flatten(0, 1), targets.flatten(), reduction="none"
        )
        return losses.view(len(targets), -1).mean(1)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = iter(self._weights)
        layers = self._layers if isinstance(self._layers, nn.Sequential) else [self._layers]
        for layer in layers:
            if isinstance(layer, nn.Linear):
                weight, bias = next(weights), next(weights)
                x = torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))
            elif isinstance(layer, nn.Embedding):
                slices = torch.arange(len(x)).view(-1, *[1] * (x.dim() - 1))
                x = next(weights)[slices, x]
            elif isinstance(layer, nn.Conv2d):
                x = _convolve(layer, x, next(weights), next(weights))
            elif isinstance(layer, nn.Flatten):
                x = x.flatten(2)
            else:  # without parameters, and for each sample alone
                x = layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return x


def _convolve(
    layer: nn.Conv2d, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    slices, size, _, height, width = x.shape
    kernel: Any = layer.kernel_size
    padding: Any = layer.padding
    columns = functional.unfold(x.flatten(0, 1), kernel, padding=padding)
    columns = columns.view(slices, size, *columns.shape[1:]).permute(0, 2, 1, 3).flatten(2)
    out = torch.baddbmm(bias[:, :, None], weight.flatten(2), columns)
    return out.view(slices, -1, size, height, width).transpose(1, 2)


def train_curves(
    name: str,
    size: int,
    rates: Sequence[float],
    seeds: Sequence[int],
    most_steps: float,
    level: float = -np.inf,
) -> list[Curve]:
    """Return a curve for each rate, to somewhat beyond where the first is at a log loss."""
    shape = (len(rates), len(seeds))
    stack = Stack(name, size, [r for r in rates for _ in seeds], list(seeds) * len(rates))
    steps, logs, reached = [0], [stack.look(LOOK_SAMPLES).reshape(shape)], np.inf
    while steps[-1] < most_steps and steps[-1] <= BEYOND * reached:
        count = max(1, round(FRACTION * steps[-1]))
        for _ in range(count):
            stack.step()
        steps.append(steps[-1] + count)
        logs.append(stack.look(LOOK_SAMPLES).reshape(shape))
        lowest = np.mean(logs[-SMOOTHED_LOOKS:], axis=(0, 2)).min()
        reached = min(reached, steps[-1] if lowest <= level else np.inf)
    looks = np.array(logs)
    return [Curve(np.array(steps), looks[:, place]) for place in range(len(rates))]


def train_ends(
    name: str, size: int, rates: Sequence[float], seeds: Sequence[int], lengths: Sequence[int]
) -> np.ndarray:
    """Return the log losses at the end of warm-up and cosine, by rate, length and seed."""
    cases = [(rate, length, seed) for rate in rates for length in lengths for seed in seeds]
    stack = Stack(name, size, [case[0] for case in cases], [case[2] for case in cases])
    for step in range(max(lengths)):
        scales = [scale_rate(step, case[1]) if step < case[1] else 0.0 for case in cases]
        stack.step(torch.tensor(scales))
    return stack.look(END_SAMPLES).reshape(len(rates), len(lengths), len(seeds))
