"""What would save memory: the model traced again with one change each, the training left alone."""

import time
from collections.abc import Callable, Iterator

import msgspec

from advisor.advice.derive import derive
from advisor.engine.progress import Progress
from advisor.engine.run import Run
from advisor.engine.runner import TaskRunner
from advisor.errors import AdvisorError
from advisor.predict.breakdown import break_down
from advisor.predict.data import TraceTask
from advisor.predict.how_to import write_how_to
from advisor.predict.memory_trace import Change, MemoryTrace, PredictedWhatIf, WhatIf
from advisor.predict.pieces import derive_pieces
from advisor.predict.savings import count_more_flops, is_optimizer_decisive
from advisor.predict.what_ifs import add_8bit_state

#: Share of the budget that the traces of a probe may take: the answer itself does not need them.
_BUDGET_FRACTION = 0.1
#: With less time left no trace is started: a small model takes as long.
_LEAST_S = 2.0


def run_remedies(run: Run) -> None:
    """Keep what holds the memory and what would change it, where memory limits the advice."""
    base, memory = run.trace, run.record.predicted_memory
    advice = derive(run.record).recommendation
    if base is None or memory is None or advice is None or advice.limiting_factor != "memory":
        return
    size = advice.micro_batch_size
    deadline = time.monotonic() + _BUDGET_FRACTION * run.spec.limits.budget_s
    device_type = run.environment.device.kind
    task = TraceTask(
        workload=run.spec.workload,
        operators=base.operators,
        largest_samples=run.facts.largest_samples,
    )
    found = trace_what_ifs(
        task,
        with_optimizer=is_optimizer_decisive(memory, (size,)),
        runner=run.runner,
        progress=run.progress,
        left_s=lambda: 0.0 if run.is_spent else min(run.left_s, deadline - time.monotonic()),
    )
    what_ifs = add_8bit_state(found, base) if device_type == "cuda" else iter(found)
    predicted = tuple(_predict(run, what_if, base, size, device_type) for what_if in what_ifs)
    kept = tuple(one for one in predicted if one is not None)
    run.keep_remedies(peak=break_down(base, size), what_ifs=kept)


def trace_what_ifs(
    task: TraceTask,
    *,
    with_optimizer: bool,
    runner: TaskRunner,
    progress: Progress,
    left_s: Callable[[], float],
) -> tuple[WhatIf, ...]:
    """Return the traces with one change each that serve every size; as many as time allows.

    A change under which the model does not run is left out, and said to be.

    Args:
        task: The trace of the training as it is.
        with_optimizer: Whether a leaner optimizer step could change anything.
        runner: Of the same model file.
        progress: Told what runs.
        left_s: The time left for all of them.
    """
    found: list[WhatIf] = []
    for change, changed in _list_changes(task, with_optimizer=with_optimizer):
        remaining_s = left_s()
        if remaining_s < _LEAST_S:
            progress.note("remedies: no time left to trace them all")
            break
        progress.stage(f"what if: {_STAGES[change]}", left_s=remaining_s)
        try:
            (trace,) = runner.run(changed, timeout_s=remaining_s)
        except AdvisorError as error:
            progress.note(f"remedies: no trace with {_STAGES[change]} ({error.message})")
            continue
        assert isinstance(trace, MemoryTrace)
        is_changed = change != "checkpointing" or trace.checkpointed
        if is_changed and trace.serves_every_size:
            found.append(WhatIf(change=change, trace=trace))
    return tuple(found)


_STAGES: dict[Change, str] = {
    "bf16": "bf16 autocast",
    "checkpointing": "activation checkpointing",
    "foreach_off": "optimizer foreach=False",
}


def _list_changes(task: TraceTask, *, with_optimizer: bool) -> Iterator[tuple[Change, TraceTask]]:
    yield "checkpointing", msgspec.structs.replace(task, checkpoint_blocks=True)
    if task.workload.precision == "fp32":
        workload = msgspec.structs.replace(task.workload, precision="bf16")
        yield "bf16", msgspec.structs.replace(task, workload=workload)
    # On the CPU no optimizer takes all tensors at once by itself.
    if with_optimizer and task.operators == "cuda":
        yield "foreach_off", msgspec.structs.replace(task, foreach=False)


def _predict(
    run: Run, what_if: WhatIf, base: MemoryTrace, size: int, device_type: str
) -> PredictedWhatIf | None:
    how_to = write_how_to(
        what_if.change,
        device_type=device_type,
        optimizer=run.facts.optimizer,
        blocks=what_if.trace.checkpointed,
        modules=what_if.trace.modules,
    )
    if how_to is None:
        return None
    memory = run.record.predicted_memory
    assert memory is not None
    return PredictedWhatIf(
        change=what_if.change,
        memory=msgspec.structs.replace(
            derive_pieces(what_if.trace), unusable_bytes=memory.unusable_bytes
        ),
        more_flops_fraction=count_more_flops(base, what_if.trace, size),
        how_to=how_to,
    )
