"""Sums of gradients over groups of micro-batches, and the moments that they hold."""

import math
import time
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from advisor.noise.data import GradientMoments, NoiseBatches
from advisor.training.data import TokenCount
from advisor.training.loss_reduction import count_tokens
from advisor.training.observer import Step
from advisor.training.optimizer_facts import to_number

#: Columns of the groups' matrix that enter a float64 product at a time: they stay in the cache.
_CHUNK_ELEMENTS = 1 << 13
#: On a GPU so many that a few kernels do much.
_DEVICE_CHUNK_ELEMENTS = 1 << 20
_HOST = torch.device("cpu")
#: Optimizer state that holds a running second moment, and whether it needs Adam's bias correction;
#: the first one that is there counts (AMSGrad keeps the largest beside the running one).
_SECOND_MOMENTS = {
    "max_exp_avg_sq": True,
    "exp_avg_sq": True,
    "square_avg": False,
    "sum": False,
}
#: Adadelta's: its metric has the size of its past updates in it as well.
_NOT_THE_METRIC = "acc_delta"


class Trained(Protocol):
    """What has gradients: a model with its optimizer."""

    @property
    def optimizer(self) -> Optimizer:
        """Moves the parameters."""

    @property
    def device(self) -> torch.device:
        """Where both live."""

    def list_parameters(self) -> list[nn.Parameter]:
        """Return all parameters, those that the optimizer does not move among them."""


class GroupSums:
    """The sums of gradients of J groups of micro-batches, seen at frozen parameters.

    They are the rows of one J×P matrix, allocated beforehand: gradients kept one by one split the
    heap that the activations use. It is on the host, and of a GPU's sums one alone is on the
    device, which moves to its row when the next group begins; or all are (`is_on_device`).

    Args:
        training: Whose gradients; its `.grad` are left cleared.
        groups: J, one after the other.
        micro_batch_size: Samples of each step.
        rounds: Micro-batches of each group.
        token_count: By how many tokens a micro-batch weighs; None takes its samples.
        least_groups: That one micro-batch each goes to once the time is up.
        deadline_s: On the clock of `perf_counter`.
    """

    def __init__(
        self,
        training: Trained,
        groups: int,
        micro_batch_size: int,
        *,
        rounds: int = 1,
        token_count: TokenCount | None = None,
        least_groups: int = 0,
        deadline_s: float = math.inf,
        is_on_device: bool = False,
    ) -> None:
        self._training = training
        self._all_parameters = training.list_parameters()
        self._parameters = trained_parameters(training)
        self._micro_batch_size = micro_batch_size
        self._rounds, self._token_count = rounds, token_count
        self._least_groups, self._deadline_s = least_groups, deadline_s
        self._shapes = [as_real(parameter).shape for parameter in self._parameters]
        self._sizes = [shape.numel() for shape in self._shapes]
        place = training.device if is_on_device else _HOST
        self._store = torch.zeros(
            groups, sum(self._sizes), dtype=choose_dtype(self._parameters), device=place
        )
        self._is_apart = training.device.type != place.type
        self._counts = [0] * groups
        self._weights = [0.0] * groups
        self._losses: list[Tensor] = []  # on the device: reading one would wait for it
        self._begin(0)

    def before_step(self, step: Step) -> None:
        """Add the gradient to the group's sum, times its weight; without tokens it has none."""
        rule, group = self._token_count, self._group
        weight = None if rule is None else float(count_tokens(step.batch, rule))
        self._counts[group] += 1
        self._weights[group] += weight or 0.0
        if weight != 0.0:
            self._losses += [loss.clone() for loss in step.losses]
            pairs = [
                (total, as_real(parameter.grad))
                for total, parameter in zip(self._running, self._parameters, strict=True)
                if parameter.grad is not None
            ]
            totals, gradients = [total for total, _ in pairs], [grad for _, grad in pairs]
            alpha = (weight or self._micro_batch_size) / step.gradient_scale
            torch._foreach_add_(totals, gradients, alpha=alpha)
        for parameter in self._all_parameters:  # also those that the optimizer does not move
            parameter.grad = None

    def after_step(self, step: Step) -> bool:  # noqa: ARG002
        """Go on to the next group where this one is full; return False after the last."""
        is_late = time.perf_counter() > self._deadline_s
        if self._counts[self._group] < self._rounds and not is_late:
            return True
        done = self._group + 1
        if done == len(self._counts) or (is_late and done >= self._least_groups):
            return False
        self._save()
        self._begin(done)
        return True

    @property
    def group(self) -> int:
        """The one that gradients add up in."""
        return self._group

    def go_to(self, group: int) -> None:
        """Have the gradients that come add up in a group."""
        if group != self._group:
            self._save()
            self._begin(group)

    def finish(self, at_step: int, *, per_sample_sum: bool, **labels: Any) -> NoiseBatches | None:
        """Return the moments of what was added; None where too little of it is finite.

        The gradient of a loss that sums over its batch (`per_sample_sum`) is made a mean. `labels`
        are other fields of the result.
        """
        self._save()
        divisor = self._micro_batch_size if per_sample_sum else 1
        by_tokens = any(self._weights)
        filled = [
            group
            for group, count in enumerate(self._counts)
            if count and (self._weights[group] or not by_tokens)
        ]
        # A norm in float64 is finite where all it sums is, and costs one pass.
        norms = torch.linalg.vector_norm(self._store, dim=1, dtype=torch.float64)
        finite = [group for group in filled if norms[group].isfinite()]
        losses = [loss for loss in map(float, self._losses) if math.isfinite(loss)]
        if len(finite) < 2 or not losses:
            return None
        factor = 1.0 / divisor**2
        sizes = [self._counts[group] * self._micro_batch_size for group in finite]
        tokens = [self._weights[group] for group in finite] if by_tokens else []
        sums = self._store if len(finite) == len(self._counts) else self._store[finite]
        root = find_metric(self._parameters, self._training.optimizer, sums.device)
        return NoiseBatches(
            **labels,
            at_step=at_step,
            micro_batch_size=self._micro_batch_size,
            loss=math.fsum(losses) / len(losses) / divisor,
            micro_batch_sizes=tuple(sizes),
            plain=_compute_moments(sums, factor, None),
            preconditioned=None if root is None else _compute_moments(sums, factor, root),
            weights=tuple(tokens),
            dropped=len(filled) - len(finite),
        )

    def _begin(self, group: int) -> None:
        """Make the group's sum the running one."""
        self._group = group
        self._row = self._store[group]
        if self._is_apart:
            self._row = torch.zeros_like(self._row, device=self._training.device)
        self._running = self._split(self._row)

    def _save(self) -> None:
        if self._is_apart:
            self._store[self._group].copy_(self._row)

    def _split(self, row: Tensor) -> list[Tensor]:
        """Return views of the row in the shapes of the parameters."""
        parts = torch.split(row, self._sizes)
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]


def _compute_moments(sums: Tensor, factor: float, root: Tensor | None) -> GradientMoments:
    """Return the moments of the rows of `sums`, times `factor`, in the metric root², in float64."""
    norms = torch.zeros(len(sums), dtype=torch.float64, device=sums.device)
    dots, total_sqnorm = torch.zeros_like(norms), norms.new_zeros(())
    length = _CHUNK_ELEMENTS if sums.device.type == "cpu" else _DEVICE_CHUNK_ELEMENTS
    for start in range(0, sums.shape[1], length):
        part = slice(start, start + length)
        chunk = sums[:, part].double()
        if root is not None:
            chunk = chunk * root[part]
        total = chunk.sum(dim=0)
        norms += chunk.square().sum(dim=1)
        dots += chunk @ total
        total_sqnorm += total @ total
    return GradientMoments(
        group_sqnorms=tuple((factor * norms).tolist()),
        group_dots=tuple((factor * dots).tolist()),
        total_sqnorm=factor * float(total_sqnorm),
    )


def find_metric(
    parameters: Sequence[nn.Parameter], optimizer: Optimizer, device: torch.device = _HOST
) -> Tensor | None:
    """Return sqrt(P) of all parameters in one row; None before any v̂.

    On the host in float64; on a GPU, where it takes room beside the training, in float32.

    P = 1/(sqrt(v̂)+ε) is the metric in which an Adam-like optimizer steps, from its own state.
    """
    dtype = torch.float64 if device.type == "cpu" else torch.float32
    roots = [_find_root(parameter, optimizer, device) for parameter in parameters]
    if all(root is None for root in roots):
        return None
    return torch.cat(
        [
            torch.zeros(as_real(parameter).numel(), dtype=dtype, device=device)
            if root is None
            else root.flatten().to(dtype)
            for parameter, root in zip(parameters, roots, strict=True)
        ]
    )


def _find_root(
    parameter: nn.Parameter, optimizer: Optimizer, device: torch.device
) -> Tensor | None:
    """Return sqrt(P) of one parameter, zero where v̂ is: 1/ε is no step size; None without a v̂."""
    state = optimizer.state.get(parameter, {})
    name = next((key for key in _SECOND_MOMENTS if key in state), None)
    if name is None or _NOT_THE_METRIC in state:
        return None
    group = next(g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
    if not isinstance(state[name], Tensor) or state[name].shape != parameter.shape:
        return None
    moment = as_real(state[name]).to(device, torch.float64)
    if _SECOND_MOMENTS[name]:
        correction = _find_correction(group, state)
        if correction is None:
            return None
        moment = moment / correction
    if "grad_avg" in state:  # RMSprop that divides by the standard deviation
        moment = moment - as_real(state["grad_avg"]).to(device, torch.float64).square()
    root = (moment.clamp(min=0.0).sqrt() + (to_number(group.get("eps")) or 0.0)).rsqrt()
    return torch.where(moment > 0.0, root, 0.0)


def _find_correction(group: dict[str, Any], state: dict[str, Any]) -> float | None:
    """Return 1 - beta2^steps; None where the second moment is not kept as Adam keeps it."""
    betas, steps = group.get("betas"), to_number(state.get("step"))
    if not isinstance(betas, list | tuple) or len(betas) != 2 or not steps:
        return None
    beta2 = to_number(betas[1])
    return None if beta2 is None or not 0.0 <= beta2 < 1.0 else 1.0 - beta2**steps


def as_real(values: Tensor) -> Tensor:
    """Return the values without a graph: dense, and complex ones as two real numbers each.

    Of a tensor that ranks share, those of this rank.
    """
    values = values.to_local() if isinstance(values, DTensor) else values
    dense = values.detach().to_dense() if values.layout is not torch.strided else values.detach()
    return torch.view_as_real(dense.resolve_conj()) if dense.is_complex() else dense


def trained_parameters(training: Trained) -> list[nn.Parameter]:
    """Return the parameters that the optimizer moves, tied ones once."""
    moved = {id(p) for group in training.optimizer.param_groups for p in group["params"]}
    return [p for p in training.list_parameters() if p.requires_grad and id(p) in moved]


def choose_dtype(parameters: Sequence[nn.Parameter]) -> torch.dtype:
    """Return the precision in which vectors of the parameters' size are kept."""
    is_double = any(parameter.dtype == torch.float64 for parameter in parameters)
    return torch.float64 if is_double else torch.float32
