"""Code to paste: it multiplies what the user's own optimizer has, and rebuilds nothing."""

from collections.abc import Sequence
from textwrap import indent

from msgspec.structs import replace

from advisor.rate.data import Candidate, OptimizerChanges
from advisor.training.data import WorkloadFacts
from advisor.training.script.arguments import fill_batch, write_command
from advisor.units import format_figure

_LOOP = "for group in optimizer.param_groups:"


def set_up(
    way: Candidate,
    facts: WorkloadFacts,
    rate: float | None,
    changes: OptimizerChanges,
    *,
    workers: int | None = None,
) -> tuple[tuple[str, ...], str]:
    """Return what to set, a line each in the names of the user's own tools, and code to paste.

    Without a rate that was run, the batch alone.
    """
    known = facts.script
    if known is None or known.script.model_file:
        groups = _list_settings(facts, rate, changes)
        settings = (_name_batch(way, facts), *(f"{_LOOP} {each}" for each in groups))
        return settings, _write_loop(way, facts, groups, workers)
    filling = fill_batch(known.script, *way.split)
    if known.takes_rate and rate is not None:
        filling = replace(filling, learning_rate=float(format_figure(rate, 4)))
        # Nothing is left to set.
        rate = None if facts.optimizer is None else facts.optimizer.learning_rate
    command = write_command(facts.file, known.script, filling)
    groups = _list_settings(facts, rate, changes)
    lines = [command]
    if groups:
        lines += [f"# In {facts.file}, before a scheduler is made:", _LOOP, _indent(groups)]
    settings = (command, *(f"in every group of the optimizer: {each}" for each in groups))
    return settings, "\n".join(lines) + "\n"


def _name_batch(way: Candidate, facts: WorkloadFacts) -> str:
    steps, size = way.gradient_accumulation_steps, way.micro_batch_size // facts.parts
    batch = f"DataLoader(batch_size={size})" + " on each rank" * (facts.parts > 1)
    if steps > 1 and facts.is_lightning:
        return f"{batch}, Trainer(accumulate_grad_batches={steps})"
    return f"{batch}, {steps} of them for each optimizer step" if steps > 1 else batch


def _write_loop(
    way: Candidate, facts: WorkloadFacts, groups: Sequence[str], workers: int | None
) -> str:
    steps = way.gradient_accumulation_steps
    size = way.micro_batch_size // facts.parts  # on each rank
    options = f"dataset, batch_size={size}, shuffle=True, drop_last=True"
    code = f"loader = torch.utils.data.DataLoader({options})\n"
    if workers:
        code = f"""loader = torch.utils.data.DataLoader(
    {options},
    num_workers={workers}, persistent_workers=True,
)
"""
    if groups:
        code += f"{_LOOP}  # before a scheduler is made\n{_indent(groups)}\n"
    if steps > 1:
        is_sum = facts.loss_reduction == "sum"
        loss = "loss_fn(model, batch)" if is_sum else f"(loss_fn(model, batch) / {steps})"
        code += f"""# Accumulate {steps} micro-batches for each optimizer step:
for index, batch in enumerate(loader, start=1):
    {loss}.backward()
    if index % {steps} == 0:
        optimizer.step()
        optimizer.zero_grad()
"""
    return code


def _indent(lines: Sequence[str]) -> str:
    return indent("\n".join(lines), "    ")


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
