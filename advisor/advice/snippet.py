"""Code to paste: it multiplies what the user's own optimizer has, and rebuilds nothing."""

from advisor.rate.data import Candidate, OptimizerChanges
from advisor.training.data import WorkloadFacts
from advisor.units import format_figure


def write_snippet(
    way: Candidate,
    facts: WorkloadFacts,
    rate: float | None,
    changes: OptimizerChanges,
    *,
    workers: int | None = None,
) -> str:
    """Return Python that sets up what is advised; without a rate that was run, the batch alone."""
    size, steps = f"batch_size={way.micro_batch_size}", way.gradient_accumulation_steps
    lines = [f"loader = torch.utils.data.DataLoader(dataset, {size}, shuffle=True, drop_last=True)"]
    if workers:
        lines = [
            "loader = torch.utils.data.DataLoader(",
            f"    dataset, {size}, shuffle=True, drop_last=True,",
            f"    num_workers={workers}, persistent_workers=True,",
            ")",
        ]
    settings = _list_settings(facts, rate, changes)
    if settings:
        lines += ["for group in optimizer.param_groups:  # before a scheduler is made"]
        lines += [f"    {setting}" for setting in settings]
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


def _list_settings(
    facts: WorkloadFacts, rate: float | None, changes: OptimizerChanges
) -> list[str]:
    """Return what is set in each parameter group, so that groups keep their ratios."""
    optimizer = facts.optimizer
    if optimizer is None or rate is None:
        return []
    settings, own = [], optimizer.learning_rate
    if not own or optimizer.is_default:
        settings.append(f'group["lr"] = {format_figure(rate, 4)}')
    elif rate != own:
        settings.append(f'group["lr"] *= {format_figure(rate / own, 4)}')
    if changes.beta2 is not None:
        settings.append(f'group["betas"] = (group["betas"][0], {format_figure(changes.beta2, 6)})')
    if changes.weight_decay is not None and optimizer.weight_decay:
        factor = changes.weight_decay / optimizer.weight_decay
        settings.append(f'group["weight_decay"] *= {format_figure(factor, 4)}')
    return settings
