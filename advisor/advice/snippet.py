"""Code to paste: the batch, the accumulation, the optimizer with the rate that was run."""

from advisor.advice.data import Candidate
from advisor.rate.data import LearningRate, OptimizerChanges
from advisor.training.data import OptimizerFacts

#: Optimizers that torch ships; others are written by their class name alone.
_TORCH_OPTIMIZERS = frozenset(
    {"SGD", "Adam", "AdamW", "NAdam", "RAdam", "SparseAdam", "Adamax", "RMSprop", "Adagrad", "Muon"}
)


def write_snippet(
    chosen: Candidate,
    optimizer: OptimizerFacts | None,
    rate: LearningRate,
    changes: OptimizerChanges,
    *,
    loss_is_sum: bool,
    workers: int | None = None,
) -> str:
    """Return Python that sets up what is advised; without a rate that was run, no optimizer."""
    size = f"batch_size={chosen.micro_batch_size}"
    lines = [f"loader = torch.utils.data.DataLoader(dataset, {size}, shuffle=True, drop_last=True)"]
    if workers:
        lines = [
            "loader = torch.utils.data.DataLoader(",
            f"    dataset, {size}, shuffle=True, drop_last=True,",
            f"    num_workers={workers}, persistent_workers=True,",
            ")",
        ]
    if optimizer is not None and rate.value is not None:
        lines += _write_optimizer(optimizer, rate.value, changes)
    if chosen.gradient_accumulation_steps > 1:
        lines += _write_accumulation(chosen.gradient_accumulation_steps, loss_is_sum=loss_is_sum)
    return "\n".join(lines) + "\n"


def _write_optimizer(
    optimizer: OptimizerFacts, rate: float, changes: OptimizerChanges
) -> list[str]:
    """Return the optimizer's line: the rate, and what else is known to be set."""
    arguments = [f"lr={rate:.4g}"]  # far finer than the rate is known
    if optimizer.momentum:
        arguments.append(f"momentum={optimizer.momentum!r}")
    beta2 = changes.beta2 if changes.beta2 is not None else optimizer.beta2
    if optimizer.beta1 is not None and beta2 is not None:
        arguments.append(f"betas=({optimizer.beta1!r}, {beta2:.6g})")
    decay = changes.weight_decay if changes.weight_decay is not None else optimizer.weight_decay
    if decay:
        arguments.append(f"weight_decay={decay:.4g}")
    prefix = "torch.optim." if optimizer.name in _TORCH_OPTIMIZERS else ""
    call = f"{prefix}{optimizer.name}(model.parameters(), {', '.join(arguments)})"
    return [f"optimizer = {call}  # other arguments as before"]


def _write_accumulation(steps: int, *, loss_is_sum: bool) -> list[str]:
    loss = "loss_fn(model, batch)" if loss_is_sum else f"(loss_fn(model, batch) / {steps})"
    return [
        f"# Accumulate {steps} micro-batches for each optimizer step:",
        "for index, batch in enumerate(loader, start=1):",
        f"    {loss}.backward()",
        f"    if index % {steps} == 0:",
        "        optimizer.step()",
        "        optimizer.zero_grad()",
    ]
