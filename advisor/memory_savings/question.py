"""What holds the memory at the advised batch, and what would change it; by traces, not run."""

import time

from msgspec.structs import replace

from advisor.advice.plan import ADVICE
from advisor.engine.question import Question
from advisor.engine.record import Conclusions, Topic
from advisor.engine.run import Run
from advisor.memory.plan import MEMORY
from advisor.memory.stage import find_settings
from advisor.predict.breakdown import break_down
from advisor.predict.changes import (
    add_8bit_state,
    compare_changes,
    count_more_flops,
    is_optimizer_decisive,
    make_trace_task,
    trace_changes,
    write_how_to,
)
from advisor.predict.data import (
    MOST_SAMPLES,
    PEAK,
    PREDICTED_MEMORY,
    TRACE,
    WHAT_IFS,
    MemorySavings,
    PredictedMemory,
    PredictedWhatIf,
)
from advisor.predict.memory_tables import chart_peak, tell_peak, tell_savings
from advisor.predict.memory_trace import MemoryTrace
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
    what_ifs = trace_changes(
        run,
        make_trace_task(run, base.operators),
        with_optimizer=is_optimizer_decisive(memory, (size,)),
        left_s=lambda: 0.0 if run.is_spent else min(run.left_s, deadline - time.monotonic()),
    )
    device_type, optimizer = run.environment.device.kind, run.facts.optimizer
    settings, largest = find_settings(run), memory.largest or size

    def derive(trace: MemoryTrace) -> PredictedMemory:
        drawn = trace if settings is None else draw_scratch(trace, largest, settings)
        return replace(derive_pieces(drawn), unusable_bytes=memory.unusable_bytes)

    predicted = tuple(
        PredictedWhatIf(
            change=each.change,
            memory=derive(each.trace),
            more_flops_fraction=count_more_flops(base, each.trace, size),
            how_to=how_to,
        )
        for each in (add_8bit_state(what_ifs, base) if device_type == "cuda" else what_ifs)
        if (how_to := write_how_to(each, device_type=device_type, optimizer=optimizer)) is not None
    )
    run.set(PEAK, break_down(base, size))
    run.replace(WHAT_IFS, predicted)


def fit_capacity(
    memory: PredictedMemory, *, capacity_bytes: int, largest: int, next_size: int
) -> int:
    """Return the capacity nearest to the real one by which the prediction ends where the run did.

    The run saw `largest` fit; `next_size` is the next one that could have. What the trace does not
    see takes or leaves some of the limit. With the same correction for a training with a change,
    its answer is compared like with like.
    """
    least = int(memory.law.predict_bytes(largest)) + memory.unusable_bytes
    most = int(memory.law.predict_bytes(next_size)) + memory.unusable_bytes - 1
    return max(least, min(most, capacity_bytes))


def compare_pieces(conclusions: Conclusions) -> MemorySavings | None:
    """Return what the changes would bring at the size whose peak the record broke down."""
    record, memory = conclusions.record, conclusions.of(MEMORY)
    prediction, peak, facts = record.get(PREDICTED_MEMORY), record.get(PEAK), record.workload
    if memory is None or prediction is None or peak is None or facts is None:
        return None
    if memory.max_micro_batch_size is None or memory.capacity_bytes is None:
        return None
    limits, size = record.command.limits, peak.micro_batch_size
    at_most, multiple = limits.cap(MOST_SAMPLES, facts.dataset_size), limits.batch_multiple
    capacity_bytes = fit_capacity(
        prediction,
        capacity_bytes=memory.capacity_bytes,
        largest=memory.max_micro_batch_size,
        next_size=memory.smallest_failed or memory.max_micro_batch_size + multiple,
    )

    def measure(pieces: PredictedMemory) -> tuple[int, int]:
        largest = min(pieces.predict_largest(capacity_bytes - pieces.unusable_bytes), at_most)
        return largest - largest % multiple, int(pieces.law.predict_bytes(size))

    changed = (
        (one.change, measure(one.memory), one.how_to, one.more_flops_fraction)
        for one in record.all(WHAT_IFS)
    )
    return compare_changes(size, measure(prediction), changed)


MEMORY_SAVINGS = Topic("what_would_change", MemorySavings, compare_pieces)


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
