"""What holds the memory at the advised batch, and the model traced again with one change each."""

import time

import msgspec

from advisor.advice.plan import ADVICE
from advisor.engine.run import Run
from advisor.predict.breakdown import break_down
from advisor.predict.change_traces import trace_changes
from advisor.predict.changes import add_8bit_state, count_more_flops, is_optimizer_decisive
from advisor.predict.data import PredictedWhatIf, TraceTask
from advisor.predict.how_to import write_how_to
from advisor.predict.pieces import derive_pieces

#: Share of the budget that the traces may take: the answer itself does not need them.
_BUDGET_FRACTION = 0.1


def run_memory_savings(run: Run) -> None:
    """Keep what holds the memory and what would change it, where memory limits the advice."""
    base, memory = run.trace, run.record.predicted_memory
    advice = run.of(ADVICE)
    if base is None or memory is None or advice is None or advice.limiting_factor != "memory":
        return
    size = advice.micro_batch_size
    deadline = time.monotonic() + _BUDGET_FRACTION * run.spec.limits.budget_s
    task = TraceTask(
        workload=run.spec.workload,
        operators=base.operators,
        largest_samples=run.facts.largest_samples,
    )
    what_ifs = trace_changes(
        task,
        with_optimizer=is_optimizer_decisive(memory, (size,)),
        runner=run.runner,
        progress=run.progress,
        left_s=lambda: 0.0 if run.is_spent else min(run.left_s, deadline - time.monotonic()),
    )
    device_type = run.environment.device.kind
    predicted = []
    for what_if in add_8bit_state(what_ifs, base) if device_type == "cuda" else what_ifs:
        how_to = write_how_to(
            what_if.change,
            what_if.trace,
            device_type=device_type,
            optimizer=run.facts.optimizer,
        )
        if how_to is not None:
            one = PredictedWhatIf(
                change=what_if.change,
                memory=msgspec.structs.replace(
                    derive_pieces(what_if.trace), unusable_bytes=memory.unusable_bytes
                ),
                more_flops_fraction=count_more_flops(base, what_if.trace, size),
                how_to=how_to,
            )
            predicted.append(one)
    run.keep_memory_savings(peak=break_down(base, size), what_ifs=tuple(predicted))
