"""The model traced again with one change each, the training left alone."""

from collections.abc import Callable, Iterator

import msgspec

from advisor.engine.progress import Progress
from advisor.engine.runner import TaskRunner
from advisor.errors import AdvisorError
from advisor.predict.changes import CHANGE_NAMES
from advisor.predict.data import TraceTask, WhatIf
from advisor.predict.memory_trace import Change

#: With less time left no trace is started: a small model takes as long.
_LEAST_S = 2.0


def trace_changes(
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
        left_s: For all of them.
    """
    found: list[WhatIf] = []
    for change, changed in _list_changes(task, with_optimizer=with_optimizer):
        remaining_s = left_s()
        if remaining_s < _LEAST_S:
            progress.note("remedies: no time left to trace them all")
            break
        progress.stage(f"what if: {CHANGE_NAMES[change]}", left_s=remaining_s)
        try:
            (trace,) = runner.run(changed, timeout_s=remaining_s)
        except AdvisorError as error:
            progress.note(f"remedies: no trace with {CHANGE_NAMES[change]} ({error.message})")
            continue
        is_changed = change != "checkpointing" or trace.checkpointed
        if is_changed and trace.serves_every_size:
            found.append(WhatIf(change=change, trace=trace))
    return tuple(found)


def _list_changes(task: TraceTask, *, with_optimizer: bool) -> Iterator[tuple[Change, TraceTask]]:
    yield "checkpointing", msgspec.structs.replace(task, checkpoint_blocks=True)
    if task.workload.precision == "fp32":
        workload = msgspec.structs.replace(task.workload, precision="bf16")
        yield "bf16", msgspec.structs.replace(task, workload=workload)
    # On the CPU no optimizer takes all tensors at once by itself.
    if with_optimizer and task.operators == "cuda":
        yield "foreach_off", msgspec.structs.replace(task, foreach=False)
