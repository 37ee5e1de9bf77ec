"""Code to paste: the batch, the accumulation, the optimizer with the rate that was run."""

from advisor.rate.data import Candidate, OptimizerChanges
from advisor.training.data import OptimizerFacts, WorkloadFacts
from advisor.units import format_figure

#: Optimizers that torch ships; others are written by their class name alone.
_TORCH_OPTIMIZERS = frozenset(
    {"SGD", "Adam", "AdamW", "NAdam", "RAdam", "SparseAdam", "Adamax", "RMSprop", "Adagrad", "Muon"}
)


def write_snippet(
    chosen: Candidate,
    facts: WorkloadFacts,
    rate: float | None,
    changes: OptimizerChanges,
    *,
    workers: int | None = None,
) -> str:
    """Return Python that sets up what is advised; without a rate that was run, no optimizer."""
    size, steps = f"batch_size={chosen.micro_batch_size}", chosen.gradient_accumulation_steps
    lines = [f"loader = torch.utils.data.DataLoader(dataset, {size}, shuffle=True, drop_last=True)"]
    if workers:
        lines = [
            "loader = torch.utils.data.DataLoader(",
            f"    dataset, {size}, shuffle=True, drop_last=True,",
            f"    num_workers={workers}, persistent_workers=True,",
            ")",
        ]
    if facts.optimizer is not None and rate is not None:
        lines.append(_write_optimizer(facts.optimizer, rate, changes))
    if steps > 1:
        is_sum = facts.loss_reduction == "sum"
        loss = "loss_fn(model, batch)" if is_sum else f"(loss_fn(model, batch) / {steps})"
        lines += [
            f"# Accumulate {steps} micro-batches for each optimizer step:",
            "for index, batch in enumerate(loader, start=1):",
            f"    {loss}.backward()",
            f"    if index % {steps} == 0:",
            "        optimizer.step()",
            "        optimizer.zero_grad()",
        ]
    return "\n".join(lines) + "\n"


def _write_optimizer(optimizer: OptimizerFacts, rate: float, changes: OptimizerChanges) -> str:
    """Return the optimizer's line: the rate, and what else is known to be set."""
    arguments = [f"lr={format_figure(rate, 4)}"]  # far finer than the rate is known
    if optimizer.momentum:
        arguments.append(f"momentum={optimizer.momentum!r}")
    beta2 = changes.beta2 if changes.beta2 is not None else optimizer.beta2
    if optimizer.beta1 is not None and beta2 is not None:
        arguments.append(f"betas=({optimizer.beta1!r}, {format_figure(beta2, 6)})")
    decay = changes.weight_decay if changes.weight_decay is not None else optimizer.weight_decay
    if decay:
        arguments.append(f"weight_decay={format_figure(decay, 4)}")
    prefix = "torch.optim." if optimizer.name in _TORCH_OPTIMIZERS else ""
    call = f"{prefix}{optimizer.name}(model.parameters(), {', '.join(arguments)})"
    return f"optimizer = {call}  # other arguments as before"
