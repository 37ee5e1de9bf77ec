"""Code to paste: it multiplies what the user's own optimizer has, and rebuilds nothing."""

from msgspec.structs import replace

from advisor.rate.data import Candidate, OptimizerChanges
from advisor.training.data import ScriptFacts, WorkloadFacts
from advisor.training.script.arguments import fill_batch, write_command
from advisor.units import format_figure


def write_snippet(
    way: Candidate,
    facts: WorkloadFacts,
    rate: float | None,
    changes: OptimizerChanges,
    *,
    workers: int | None = None,
) -> str:
    """Return what sets up the advice; without a rate that was run, the batch alone."""
    if facts.script is not None and not facts.script.script.model_file:
        return _write_start(way, facts, facts.script, rate, changes)
    steps = way.gradient_accumulation_steps
    size = f"batch_size={way.micro_batch_size // facts.parts}"  # on each rank
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


def list_settings(
    way: Candidate, facts: WorkloadFacts, rate: float | None, changes: OptimizerChanges
) -> tuple[str, ...]:
    """Return what to set, a line each, in the names that the user's own tools have for it."""
    if facts.script is not None and not facts.script.script.model_file:
        command, *lines = _write_start(way, facts, facts.script, rate, changes).splitlines()
        settings = (line.strip() for line in lines if line.startswith(" "))
        return (command, *(f"in every group of the optimizer: {each}" for each in settings))
    steps, size = way.gradient_accumulation_steps, way.micro_batch_size // facts.parts
    batch = f"DataLoader(batch_size={size})" + " on each rank" * (facts.parts > 1)
    if steps > 1 and facts.is_lightning:
        batch += f", Trainer(accumulate_grad_batches={steps})"
    elif steps > 1:
        batch += f", {steps} of them for each optimizer step"
    groups = _list_settings(facts, rate, changes)
    return (batch, *(f"for group in optimizer.param_groups: {each}" for each in groups))


def _write_start(
    way: Candidate,
    facts: WorkloadFacts,
    known: ScriptFacts,
    rate: float | None,
    changes: OptimizerChanges,
) -> str:
    """Return the script's command line, and what to set in it where that takes no argument."""
    filling = fill_batch(known.script, *way.split)
    own = None if facts.optimizer is None else facts.optimizer.learning_rate
    if known.takes_rate and rate is not None:
        filling = replace(filling, learning_rate=float(format_figure(rate, 4).replace(",", "")))
        rate = own  # nothing is left to set
    command = write_command(facts.file, known.script, filling)
    settings = _list_settings(facts, rate, changes)
    if settings:
        command += f"\n# In {facts.file}, before a scheduler is made:"
        command += "\nfor group in optimizer.param_groups:"
        command += "".join(f"\n    {setting}" for setting in settings)
    return command + "\n"


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
