"""Gradient moments along a real training run: the raw material of the noise scale.

At each point the parameters are frozen and gradients of fresh micro-batches are taken by plain
backward passes, in train mode, never clipped. The micro-batches go round J groups; each group's
gradients add up where autograd adds them anyway, in `.grad`, so a micro-batch costs no more than
its forward and backward:

    train ... | point: group 0, 1, ... J-1, 0, 1, ... at frozen parameters | train ... | point | ...

The J×J matrix of products of the groups' sums then holds all that the estimate needs.
"""

import math
import time

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from advisor.measurements import GradientMoments, NoiseBatches
from advisor.spec import NoiseTask
from advisor.worker.entry import Emit
from advisor.workload.data import IndexStream
from advisor.workload.training import Training
from advisor.workload.workload import Workload

#: Elements of one group's sum that enter the float64 product at a time, to bound its memory.
_CHUNK_ELEMENTS = 1 << 16
#: A point sees this many times the noise scale of its pilot round: the interval is then about a
#: factor of 2 wide (docs/method.md).
_ENOUGH_NOISE_SCALES = 5.0
#: Fewer groups do not carry a jackknife.
_LEAST_GROUPS = 8
#: Optimizer state that holds a running second moment, and whether it needs Adam's bias correction.
_SECOND_MOMENTS = {"exp_avg_sq": True, "square_avg": False, "sum": False}


def run(task: NoiseTask, emit: Emit) -> None:
    """Emit one NoiseBatches for each point of the trajectory that the budget allows."""
    workload = Workload(task.workload)
    training = workload.make_training()
    stream = IndexStream(workload.batches.size, seed=task.workload.seed)
    deadline = time.perf_counter() + task.budget_s
    for step in range(task.steps + 1):
        if step in task.points:
            # Equal shares of the time left, so that the last point is as precise as the first.
            points_left = sum(1 for point in task.points if point >= step)
            share_s = (deadline - time.perf_counter()) / (points_left + 1)
            batches = _measure(workload, training, task, step, share_s)
            if batches is not None:
                emit(batches)
        if time.perf_counter() > deadline:
            return
        if step < task.steps:
            training.step(workload.take(stream.next(task.micro_batch_size)))


def _measure(
    workload: Workload, training: Training, task: NoiseTask, step: int, share_s: float
) -> NoiseBatches | None:
    """Return the moments at the present parameters, which are left as they are."""
    size = workload.batches.size
    most = task.max_micro_batches
    if size is not None:
        most = min(most, size // task.micro_batch_size)  # beyond one pass nothing new is learnt
    group_count = min(task.groups, most)
    if group_count < _LEAST_GROUPS:
        return None
    buffers = {name: value.clone() for name, value in training.model.named_buffers()}
    deadline = time.perf_counter() + share_s

    def collect(rounds: int, seed: int) -> NoiseBatches:
        # An order of its own: within one pass over the data no sample comes twice.
        stream = IndexStream(size, seed=(task.workload.seed * 1_000_003 + step) * 2 + seed)
        sums = GroupSums(training, group_count, task.micro_batch_size)
        for _ in range(rounds):
            for group in range(group_count):
                sums.add(group, workload.take(stream.next(task.micro_batch_size)))
            if time.perf_counter() > deadline:
                break
        return sums.finish(step, per_sample_sum=task.loss_is_sum)

    batches = collect(_choose_rounds(collect(1, seed=0), most // group_count), seed=1)
    training.optimizer.zero_grad()
    with torch.no_grad():  # running statistics are part of the frozen state
        for name, value in training.model.named_buffers():
            value.copy_(buffers[name])
    return batches


def _choose_rounds(pilot: NoiseBatches, most: int) -> int:
    """Return the rounds worth measuring by a first round, which is then thrown away.

    Stopping by the same data that make the estimate would favour the moments at which it happens to
    be small: simulated, the median is then 5 to 12 % low (docs/method.md).
    """
    sizes, moments = pilot.micro_batch_sizes, pilot.plain
    samples = sum(sizes)
    if len(sizes) < 2:
        return most
    within = sum(norm / size for norm, size in zip(moments.group_sqnorms, sizes, strict=True))
    trace = (within - moments.total_sqnorm / samples) / (len(sizes) - 1)
    square = moments.total_sqnorm / samples**2 - trace / samples
    if square <= 0:
        return most
    return max(1, min(most, math.ceil(_ENOUGH_NOISE_SCALES * trace / square / samples)))


class GroupSums:
    """The sums of gradients of J groups of micro-batches, at frozen parameters.

    Args:
        training: The model, whose `.grad` is used and left cleared.
        groups: J.
        micro_batch_size: Samples of each micro-batch.
    """

    def __init__(self, training: Training, groups: int, micro_batch_size: int) -> None:
        self._training = training
        self._parameters = [p for p in training.model.parameters() if p.requires_grad]
        self._sums: list[list[Tensor | None]] = [
            [None] * len(self._parameters) for _ in range(groups)
        ]
        self._counts = [0] * groups
        self._micro_batch_size = micro_batch_size
        self._losses: list[Tensor] = []

    def add(self, group: int, batch: object) -> None:
        """Add the gradient of the batch's loss to the group's sum."""
        kept = self._sums[group]
        for index, parameter in enumerate(self._parameters):
            parameter.grad = kept[index]
        self._losses.append(self._training.backward(batch))
        for index, parameter in enumerate(self._parameters):
            kept[index] = parameter.grad
            parameter.grad = None
        self._counts[group] += 1

    def finish(self, step: int, *, per_sample_sum: bool) -> NoiseBatches:
        """Return the moments of what was added so far; more may be added afterwards.

        Args:
            step: Optimizer steps taken before.
            per_sample_sum: Whether the loss sums over its batch; its gradient is then divided by
                the batch to be a mean.
        """
        scale = self._training.gradient_scale() * (self._micro_batch_size if per_sample_sum else 1)
        roots = _preconditioner_roots(self._parameters, self._training.optimizer)
        # A micro-batch's gradient counts with its size: s_j is the sum of b_k·m_k.
        factor = (self._micro_batch_size / scale) ** 2
        plain = self._gram(None) * factor
        weighted = None if roots is None else self._gram(roots) * factor
        finite = plain.diagonal().isfinite().nonzero().flatten().tolist()
        sizes = [self._counts[group] * self._micro_batch_size for group in finite]
        return NoiseBatches(
            at_step=step,
            micro_batch_size=self._micro_batch_size,
            loss=float(torch.stack(self._losses).double().mean())
            / (self._micro_batch_size if per_sample_sum else 1),
            micro_batch_sizes=tuple(sizes),
            groups=tuple(range(len(finite))),
            plain=_moments(plain[finite][:, finite], sizes),
            preconditioned=None
            if weighted is None
            else _moments(weighted[finite][:, finite], sizes),
            dropped=len(self._counts) - len(finite),
        )

    def _gram(self, roots: list[Tensor | None] | None) -> Tensor:
        """Return the J×J products of the groups' sums, in float64, in the metric root²."""
        gram = torch.zeros(len(self._sums), len(self._sums), dtype=torch.float64)
        for index, parameter in enumerate(self._parameters):
            rows = [group[index] for group in self._sums]
            if all(row is None for row in rows):
                continue
            flat = [_flatten(row, parameter) for row in rows]
            root = None if roots is None else roots[index]
            for start in range(0, parameter.numel(), _CHUNK_ELEMENTS):
                part = slice(start, start + _CHUNK_ELEMENTS)
                chunk = torch.stack([row[part] for row in flat]).double()
                if root is not None:
                    chunk *= root.flatten()[part]
                gram += (chunk @ chunk.T).cpu()
        return gram


def _flatten(gradient: Tensor | None, parameter: nn.Parameter) -> Tensor:
    if gradient is None:
        return torch.zeros_like(parameter).detach().flatten()
    return (gradient.coalesce().to_dense() if gradient.is_sparse else gradient).flatten()


def _moments(gram: Tensor, sizes: list[int]) -> GradientMoments:
    norms = gram.diagonal()
    return GradientMoments(
        sqnorms=tuple((norms / torch.tensor(sizes, dtype=torch.float64) ** 2).tolist()),
        group_sqnorms=tuple(norms.tolist()),
        group_dots=tuple(gram.sum(dim=1).tolist()),
        total_sqnorm=float(gram.sum()),
    )


def _preconditioner_roots(
    parameters: list[nn.Parameter], optimizer: Optimizer
) -> list[Tensor | None] | None:
    """Return sqrt(P) with P = 1/(sqrt(v̂)+ε) for each parameter, None before the state exists."""
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    roots: list[Tensor | None] = []
    for parameter in parameters:
        state = optimizer.state.get(parameter, {})
        name = next((key for key in _SECOND_MOMENTS if key in state), None)
        if name is None:
            roots.append(None)
            continue
        group = groups[id(parameter)]
        moment = state[name].double()
        if _SECOND_MOMENTS[name]:
            moment = moment / (1 - group["betas"][1] ** float(state["step"]))
        roots.append((moment.sqrt() + group.get("eps", 0.0)).rsqrt())
    return roots if any(root is not None for root in roots) else None
