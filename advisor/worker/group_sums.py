"""The sums of gradients of groups of micro-batches, and the moments that they hold.

The micro-batches of one group add up where autograd adds them anyway, in `.grad`, so a micro-batch
costs no more than its forward and backward.
"""

import itertools

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from advisor.measurements import GradientMoments, NoiseBatches
from advisor.workload.training import Training

#: Columns of the groups' matrix that enter a float64 product at a time, so that they stay in the
#: cache.
_CHUNK_ELEMENTS = 1 << 13
#: Optimizer state that holds a running second moment, and whether it needs Adam's bias correction.
_SECOND_MOMENTS = {"exp_avg_sq": True, "square_avg": False, "sum": False}


def trained_parameters(training: Training) -> list[nn.Parameter]:
    """Return the parameters that the optimizer moves, tied ones once."""
    moved = {id(p) for group in training.optimizer.param_groups for p in group["params"]}
    return [p for p in training.model.parameters() if p.requires_grad and id(p) in moved]


class GroupSums:
    """The sums of gradients of J groups of micro-batches, at frozen parameters.

    Finished sums lie in one J×P matrix on the host, allocated beforehand: gradients kept one by one
    would split the heap that the activations use, which was seen to nearly double a step's time.

    Args:
        training: The model, whose `.grad` is used and left cleared.
        groups: J.
        micro_batch_size: Samples of each micro-batch.

    Attributes:
        groups: J.
    """

    def __init__(self, training: Training, groups: int, micro_batch_size: int) -> None:
        self.groups = groups
        self._training = training
        self._parameters = trained_parameters(training)
        self._micro_batch_size = micro_batch_size
        sizes = [parameter.numel() for parameter in self._parameters]
        ends = list(itertools.accumulate(sizes))
        self._parts = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
        is_double = any(parameter.dtype == torch.float64 for parameter in self._parameters)
        dtype = torch.float64 if is_double else torch.float32
        self._store = torch.zeros(groups, sum(sizes), dtype=dtype)
        self._counts = [0] * groups
        self._current: int | None = None
        self._running: list[Tensor | None] = []
        self._losses: list[Tensor] = []

    def add(self, group: int, batch: object) -> None:
        """Add the gradient of the batch's loss to the group's sum."""
        if group != self._current:
            self._park()
            self._load(group)
        for parameter in self._training.model.parameters():
            parameter.grad = None  # also of those that the optimizer does not move
        for parameter, kept in zip(self._parameters, self._running, strict=True):
            if _adds_exactly(parameter):
                parameter.grad = kept
        self._losses.append(self._training.backward(batch).detach())
        for index, parameter in enumerate(self._parameters):
            self._running[index] = _take_sum(parameter, self._running[index])
            parameter.grad = None
        self._counts[group] += 1

    def finish(self, step: int, *, per_sample_sum: bool) -> NoiseBatches | None:
        """Return the moments of what was added; None where too little of it is finite.

        Args:
            step: Optimizer steps taken before.
            per_sample_sum: Whether the loss sums over its batch; its gradient is then divided by
                the batch to be a mean.
        """
        self._park()
        divisor = self._micro_batch_size if per_sample_sum else 1
        filled = [group for group, count in enumerate(self._counts) if count]
        finite = [group for group in filled if self._store[group].isfinite().all()]
        losses = torch.stack(self._losses).double()
        if len(finite) < 2 or not losses.isfinite().any():
            return None
        # A micro-batch's gradient counts with its size: s_j is the sum of b_k·m_k.
        factor = (self._micro_batch_size / self._training.gradient_scale() / divisor) ** 2
        sizes = [self._counts[group] * self._micro_batch_size for group in finite]
        sums = self._store if len(finite) == self.groups else self._store[finite]
        roots = self._find_roots()
        return NoiseBatches(
            at_step=step,
            micro_batch_size=self._micro_batch_size,
            loss=float(losses[losses.isfinite()].mean()) / divisor,
            micro_batch_sizes=tuple(sizes),
            groups=tuple(range(len(finite))),
            plain=_compute_moments(sums, sizes, factor, None),
            preconditioned=None if roots is None else _compute_moments(sums, sizes, factor, roots),
            dropped=len(filled) - len(finite),
        )

    def _park(self) -> None:
        """Move the running sum to the matrix."""
        for part, total in zip(self._parts, self._running, strict=False):
            if total is not None:
                dense = total.to_dense() if total.is_sparse else total
                self._store[self._current, part].copy_(dense.flatten())
        self._running, self._current = [], None

    def _load(self, group: int) -> None:
        """Make the group's sum the running one."""
        self._current = group
        self._running = [None] * len(self._parameters)
        if self._counts[group]:
            self._running = [
                self._store[group, part].clone().view_as(parameter).to(parameter.device)
                for part, parameter in zip(self._parts, self._parameters, strict=True)
            ]

    def _find_roots(self) -> Tensor | None:
        """Return sqrt(P) with P = 1/(sqrt(v̂)+ε) for every element, None before there is a v̂.

        It is zero where the optimizer holds none: what it has not moved has no part in its metric.
        """
        found = torch.zeros(self._store.shape[1], dtype=torch.float64)
        is_known = False
        for part, parameter in zip(self._parts, self._parameters, strict=True):
            root = _find_root(parameter, self._training.optimizer)
            if root is not None:
                found[part] = root
                is_known = True
        return found if is_known else None


def _adds_exactly(parameter: nn.Parameter) -> bool:
    """Return whether `.grad` is precise enough to add hundreds of gradients up in."""
    return parameter.element_size() >= torch.float32.itemsize


def _take_sum(parameter: nn.Parameter, kept: Tensor | None) -> Tensor | None:
    """Return the sum with the gradient that the backward pass left in the parameter."""
    gradient = parameter.grad
    if gradient is None or _adds_exactly(parameter):
        return gradient if gradient is not None else kept
    return gradient.float() if kept is None else kept.add_(gradient)


def _compute_moments(
    sums: Tensor, sizes: list[int], factor: float, roots: Tensor | None
) -> GradientMoments:
    """Return the moments of the rows of `sums`, in the metric root², in float64."""
    norms = torch.zeros(len(sums), dtype=torch.float64)
    dots, total_sqnorm = torch.zeros_like(norms), 0.0
    for start in range(0, sums.shape[1], _CHUNK_ELEMENTS):
        part = slice(start, start + _CHUNK_ELEMENTS)
        chunk = sums[:, part].double()
        if roots is not None:
            chunk = chunk * roots[part]
        total = chunk.sum(dim=0)
        norms += chunk.square().sum(dim=1)
        dots += chunk @ total
        total_sqnorm += float(total @ total)
    square_sizes = torch.tensor(sizes, dtype=torch.float64) ** 2
    return GradientMoments(
        sqnorms=tuple((factor * norms / square_sizes).tolist()),
        group_sqnorms=tuple((factor * norms).tolist()),
        group_dots=tuple((factor * dots).tolist()),
        total_sqnorm=factor * total_sqnorm,
    )


def _find_root(parameter: nn.Parameter, optimizer: Optimizer) -> Tensor | None:
    state = optimizer.state.get(parameter, {})
    name = next((key for key in _SECOND_MOMENTS if key in state), None)
    if name is None:
        return None
    group = next(g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
    moment = (state[name].to_dense() if state[name].is_sparse else state[name]).double()
    if _SECOND_MOMENTS[name]:
        moment = moment / (1 - group["betas"][1] ** float(state["step"]))
    root = (moment.sqrt() + group.get("eps", 0.0)).rsqrt()
    # An element that never had a gradient has an infinite weight on nothing.
    return torch.nan_to_num(root, posinf=0.0).flatten().cpu()
