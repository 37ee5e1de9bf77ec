"""What holds the memory at the advised batch, and the model traced again with one change each."""

import time

import msgspec

from advisor.advice.plan import ADVICE
from advisor.engine.conclusions import Conclusions
from advisor.engine.question import Question
from advisor.engine.run import Run
from advisor.memory.trace_stage import find_settings
from advisor.memory_savings.plan import MEMORY_SAVINGS
from advisor.predict.breakdown import break_down
from advisor.predict.changes import (
    add_8bit_state,
    count_more_flops,
    is_optimizer_decisive,
    trace_changes,
)
from advisor.predict.data import PEAK, PREDICTED_MEMORY, TRACE, WHAT_IFS, PredictedWhatIf, TraceTask
from advisor.predict.how_to import write_how_to
from advisor.predict.memory_tables import chart_peak, tell_peak, tell_savings
from advisor.predict.pieces import derive_pieces
from advisor.predict.replay import draw_scratch
from advisor.telling import Told


def run_memory_savings(run: Run) -> None:
    """Keep what holds the memory and what would change it, where memory limits the advice."""
    base, memory, advice = run.held(TRACE), run.record.get(PREDICTED_MEMORY), run.of(ADVICE)
    if base is None or memory is None or advice is None or advice.limiting_factor != "memory":
        return
    size = advice.micro_batch_size
    deadline = time.monotonic() + run.share_s("memory savings")
    task = TraceTask(
        workload=run.spec.workload,
        operators=base.operators,
        largest_samples=run.facts.largest_samples,
    )
    what_ifs = trace_changes(
        run,
        task,
        with_optimizer=is_optimizer_decisive(memory, (size,)),
        left_s=lambda: 0.0 if run.is_spent else min(run.left_s, deadline - time.monotonic()),
    )
    device_type, optimizer = run.environment.device.kind, run.facts.optimizer
    settings = find_settings(run)
    predicted = tuple(
        PredictedWhatIf(
            change=each.change,
            memory=msgspec.structs.replace(
                derive_pieces(
                    each.trace
                    if settings is None
                    else draw_scratch(each.trace, memory.largest or size, settings)
                ),
                unusable_bytes=memory.unusable_bytes,
            ),
            more_flops_fraction=count_more_flops(base, each.trace, size),
            how_to=how_to,
        )
        for each in (add_8bit_state(what_ifs, base) if device_type == "cuda" else what_ifs)
        if (how_to := write_how_to(each, device_type=device_type, optimizer=optimizer)) is not None
    )
    run.set(PEAK, break_down(base, size))
    run.replace(WHAT_IFS, predicted)


def tell_memory_savings(conclusions: Conclusions) -> Told:
    """Return what holds the memory at the advised batch, and what would change it."""
    peak, savings = conclusions.record.get(PEAK), conclusions.of(MEMORY_SAVINGS)
    return Told(
        details=(
            *(() if peak is None else (tell_peak(peak),)),
            *(() if savings is None else tell_savings([("", savings)])),
        ),
        charts=() if peak is None else (chart_peak(peak),),
    )


QUESTION = Question(
    name="memory savings",
    keys=(PEAK, WHAT_IFS),
    topics=(MEMORY_SAVINGS,),
    run=run_memory_savings,
    tell=tell_memory_savings,
    fails_alone=True,
)
