"""Usual changes to the training code that save memory: traces, costs, gains, the code to paste."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec.structs import replace

from advisor.engine.run import Run
from advisor.errors import AdvisorError
from advisor.predict.data import MemorySaving, MemorySavings, PredictedMemory, TraceTask, WhatIf
from advisor.predict.law import MemoryLaw
from advisor.predict.memory_trace import Change, MemoryTrace, Operators, TraceBlock
from advisor.predict.roofline import cost_step
from advisor.training.data import OptimizerFacts

#: The largest size that fits, and the peak in bytes at a given one.
Effect = tuple[int, int]

#: A change that moves neither the largest size nor the peak by this share is not worth its cost.
LEAST_CHANGE_FRACTION = 0.01

#: With less time left no trace is started: a small model takes as long.
_LEAST_S = 2.0
#: Smaller tensors keep their state in fp32, as in bitsandbytes: quantizing them saves nothing.
LEAST_QUANTIZED_ELEMENTS = 4096
#: Elements that share one scale in fp32: 4 bytes more for every 256, which is 1/64.
_ELEMENTS_FOR_EACH_SCALE = 256
_FP32_BYTES = 4
#: Optimizers of torch whose state bitsandbytes keeps in 8 bits, and its names for the options.
_8BIT: dict[str, dict[str, str]] = {
    "Adam": {"epsilon": "eps", "weight_decay": "weight_decay"},
    "AdamW": {"epsilon": "eps", "weight_decay": "weight_decay"},
    "SGD": {"momentum": "momentum", "weight_decay": "weight_decay"},
    "RMSprop": {"momentum": "momentum", "epsilon": "eps", "weight_decay": "weight_decay"},
    "Adagrad": {"weight_decay": "weight_decay"},
}
#: Blocks that are listed one by one before the line gets longer than a reader follows.
_MOST_LISTED = 4

CHANGE_NAMES: dict[Change, str] = {
    "bf16": "bf16 autocast",
    "checkpointing": "activation checkpointing",
    "foreach_off": "optimizer foreach=False",
    "state_8bit": "8-bit optimizer state",
}
_NOTES: dict[Change, str] = {
    "bf16": "changes the arithmetic; around the forward pass and the loss",
    "checkpointing": "the repeated blocks run their forward pass twice; with functools.partial and "
    "torch.utils.checkpoint.checkpoint, a Hugging Face model with gradient_checkpointing_enable()",
    "foreach_off": "one tensor at a time: more and smaller kernels in the optimizer step",
    "state_8bit": "a what-if by arithmetic: states of 4,096 elements and more in 8 bits, a scale "
    "for each 256 (Dettmers et al. 2021, arXiv:2110.02861)",
}


def make_trace_task(run: Run, operators: Operators, size: int | None = None) -> TraceTask:
    """Return the task that traces the run's model, at every size or at one."""
    return TraceTask(
        workload=run.spec.workload,
        operators=operators,
        largest_samples=run.facts.largest_samples,
        micro_batch_size=size,
        min_micro_batch_size=run.facts.min_micro_batch_size,
        batch_multiple=run.spec.limits.batch_multiple,
    )


def trace_changes(
    run: Run, task: TraceTask, *, with_optimizer: bool, left_s: Callable[[], float]
) -> tuple[WhatIf, ...]:
    """Return the traces with one change each that serve every size; as many as time allows.

    A change under which the model does not run is left out, and said to be.
    """
    changes: dict[Change, TraceTask] = {"checkpointing": replace(task, checkpoint_blocks=True)}
    if task.workload.precision == "fp32":
        changes["bf16"] = replace(task, workload=replace(task.workload, precision="bf16"))
    # On the CPU no optimizer takes all tensors at once by itself.
    if with_optimizer and task.operators == "cuda":
        changes["foreach_off"] = replace(task, foreach=False)
    found: list[WhatIf] = []
    for change, changed in changes.items():
        remaining_s = left_s()
        if remaining_s < _LEAST_S:
            run.progress.note("remedies: no time left to trace them all")
            break
        run.progress.stage(f"what if: {CHANGE_NAMES[change]}", left_s=remaining_s)
        try:
            (trace,) = run.runner.run(changed, timeout_s=remaining_s)
        except AdvisorError as error:
            run.progress.note(f"remedies: no trace with {CHANGE_NAMES[change]} ({error.message})")
            continue
        is_changed = change != "checkpointing" or trace.checkpointed
        if is_changed and trace.serves_every_size:
            found.append(WhatIf(change=change, trace=trace))
    return tuple(found)


def compare_changes(
    micro_batch_size: int,
    before: Effect,
    changed: Iterable[tuple[Change, Effect, str, float | None]],
) -> MemorySavings:
    """Return the training as it is with the changes that help, the largest micro-batch first.

    A change helps where it raises the largest size or lowers the peak by `LEAST_CHANGE_FRACTION`,
    and worsens neither by as much. Each has its code, and the share of operations that it adds.
    """
    savings = []
    for change, after, how_to, more_flops_fraction in changed:
        note = _NOTES[change]
        if more_flops_fraction is not None and more_flops_fraction >= LEAST_CHANGE_FRACTION:
            more = f"{100.0 * more_flops_fraction:.0f} % more floating-point operations"
            note = f"{more}; {note}"
        gains = (
            (after[0] - before[0]) / max(before[0], 1) / LEAST_CHANGE_FRACTION,
            (before[1] - after[1]) / max(before[1], 1) / LEAST_CHANGE_FRACTION,
        )
        if max(gains) >= 1.0 and min(gains) > -1.0:
            saving = MemorySaving(
                name=CHANGE_NAMES[change],
                how_to=how_to,
                max_micro_batch_size=after[0],
                peak_bytes=after[1],
                note=note,
            )
            savings.append(saving)
    savings.sort(key=lambda one: (-one.max_micro_batch_size, one.peak_bytes))
    return MemorySavings(
        micro_batch_size=micro_batch_size,
        max_micro_batch_size=before[0],
        peak_bytes=before[1],
        savings=tuple(savings),
    )


def add_8bit_state(what_ifs: tuple[WhatIf, ...], base: MemoryTrace) -> Iterator[WhatIf]:
    """Yield the what-ifs, and the optimizer's state in 8 bits.

    Such optimizers take one tensor at a time, so the trace that does is the one to change, where
    there is one. The optimizer's temporaries stay, so the saving is rather too small.

    Source: Dettmers et al. 2021, arXiv:2110.02861; the limits are those of bitsandbytes today.
    """
    yield from what_ifs
    trace = next((one.trace for one in what_ifs if one.change == "foreach_off"), base)
    blocks = tuple(map(_quantize, trace.blocks))
    yield WhatIf(change="state_8bit", trace=replace(trace, blocks=blocks))


def _quantize(block: TraceBlock) -> TraceBlock:
    """Return a state, taken to be in fp32, in one byte for each element and its scales."""
    elements = block.fixed_bytes // _FP32_BYTES
    is_state = block.category == "optimizer_state" and block.bytes_per_sample == 0
    if not is_state or elements < LEAST_QUANTIZED_ELEMENTS:
        return block
    scales = -(-elements // _ELEMENTS_FOR_EACH_SCALE)
    return replace(block, fixed_bytes=elements + _FP32_BYTES * scales)


def count_more_flops(base: MemoryTrace, changed: MemoryTrace, size: int) -> float | None:
    """Return the operations that a change adds to a step, as a share; None where not counted."""
    before, after = (cost_step(trace).count_flops(size) for trace in (base, changed))
    return None if not before or after is None else after / before - 1.0


def is_optimizer_decisive(memory: PredictedMemory, sizes: Iterable[int]) -> bool:
    """Return whether the optimizer step has the peak, and a leaner one helps, at any size."""
    return any(
        MemoryLaw(memory.optimizer).predict_bytes(size)
        > MemoryLaw(memory.forward_backward).predict_bytes(size)
        for size in sizes
    )


def write_how_to(
    what_if: WhatIf, *, device_type: str, optimizer: OptimizerFacts | None
) -> str | None:
    """Return one line of code that makes the change of a `model` or `optimizer`; None for none."""
    match what_if.change:
        case "bf16":
            return f'with torch.autocast("{device_type}", torch.bfloat16): loss = ...'
        case "checkpointing":
            return _write_checkpointing(what_if.trace) if what_if.trace.checkpointed else None
        case "foreach_off":
            return 'for group in optimizer.param_groups: group["foreach"] = False'
        case "state_8bit":
            return None if optimizer is None else _write_8bit(optimizer)


def _write_8bit(optimizer: OptimizerFacts) -> str | None:
    names = _8BIT.get(optimizer.name)
    if names is None:
        return None
    options = [] if optimizer.learning_rate is None else [f"lr={optimizer.learning_rate!r}"]
    if "Adam" in optimizer.name and None not in {optimizer.beta1, optimizer.beta2}:
        options.append(f"betas=({optimizer.beta1!r}, {optimizer.beta2!r})")
    for field, name in names.items():
        value = getattr(optimizer, field)
        options += [] if value is None else [f"{name}={value!r}"]
    arguments = ", ".join(["model.parameters()", *options])
    return f"optimizer = bitsandbytes.optim.{optimizer.name}8bit({arguments})"


def _write_checkpointing(trace: MemoryTrace) -> str:
    containers = dict.fromkeys(name.rpartition(".")[0] for name in trace.checkpointed)
    terms = [term for container in containers for term in _list_terms(container, trace)]
    where = f"({', '.join(terms)}{',' if len(terms) == 1 else ''})"
    if len(terms) == 1 and terms[0].startswith("*"):
        where = terms[0].removeprefix("*")
    wrapped = "partial(checkpoint, block.forward, use_reentrant=False)"
    return f"for block in {where}: block.forward = {wrapped}"


def _list_terms(container: str, trace: MemoryTrace) -> list[str]:
    """Return what to loop over of one container: all of it, a slice, or its blocks by name."""
    chosen = _list_children(container, trace.checkpointed)
    place = _write_place(container)
    # A module that is used twice has one name: those of a container may have gaps.
    if _list_children(container, trace.modules) == chosen:
        return [f"*{place}"]
    numbers = [int(name) for name in chosen if name.isdecimal()]
    if len(numbers) == len(chosen) and numbers == list(range(numbers[0], numbers[-1] + 1)):
        return [f"*{place}[{numbers[0]}:{numbers[-1] + 1}]"]
    if len(chosen) <= _MOST_LISTED:
        return [_write_place(f"{container}.{name}".removeprefix(".")) for name in chosen]
    return [f"*map({place}.get_submodule, {chosen!r})"]


def _list_children(container: str, names: Sequence[str]) -> list[str]:
    split = (name.rpartition(".") for name in names if name)
    return [last for outer, _, last in split if outer == container]


def _write_place(name: str) -> str:
    """Return the expression for a module: `model.stages[2].blocks`."""
    if not name:
        return "model"
    if not all(re.fullmatch(r"[A-Za-z_]\w*|\d+", part) for part in name.split(".")):
        return f"model.get_submodule({name!r})"
    return "model" + "".join(
        f"[{part}]" if part.isdecimal() else f".{part}" for part in name.split(".")
    )
