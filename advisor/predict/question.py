"""The memory of cards that are not here: the model is traced here, nothing runs on them."""

from advisor.engine.question import Question
from advisor.engine.run import Run
from advisor.predict.changes import is_optimizer_decisive, make_trace_task, trace_changes
from advisor.predict.data import CARDS, TRACED_CHANGES, TRACES
from advisor.predict.footprint import find_general
from advisor.predict.pieces import derive_pieces
from advisor.predict.prediction import PREDICTIONS, choose_next_size, list_cards, read_case
from advisor.predict.tell import tell_prediction

#: Traces where none serves every size: the first two, and some near the sizes that matter.
_MOST_TRACES = 6


def run_prediction(run: Run) -> None:
    """Keep the traces of the model, and those with one change each that may save memory."""
    _trace(run, None)
    for _ in range(_MOST_TRACES - 1):
        size = choose_next_size(read_case(run.record))
        if size is None or run.is_spent:
            break
        _trace(run, size)
    case = read_case(run.record)
    base = find_general(case.traces)
    if base is not None and base.method == "symbolic":
        memory, sizes = derive_pieces(base), [case.asked.micro_batch_size]
        for gpu in list_cards(case.asked):  # around those that the figures will be for
            most = min(memory.predict_largest(gpu.usable_bytes), case.ceiling)
            sizes += [max(1, most // 2), max(1, most)]
        changes = trace_changes(
            run,
            make_trace_task(run, "cuda"),
            with_optimizer=is_optimizer_decisive(memory, filter(None, sizes)),
            left_s=lambda: 0.0 if run.is_spent else run.left_s,
        )
        run.replace(TRACED_CHANGES, changes)
    run.progress.stage("predicting", left_s=None)
    run.of(PREDICTIONS)  # the longest part of large models; whatever is written needs them


def _trace(run: Run, size: int | None) -> None:
    at = "" if size is None else f" at batch {size}"
    run.progress.stage(f"tracing{at}", left_s=run.left_s)
    task = make_trace_task(run, "cuda", size)
    run.add(TRACES, *run.runner.run(task, timeout_s=run.left_s))


QUESTION = Question(
    name="prediction",
    keys=(CARDS, TRACES, TRACED_CHANGES),
    topics=(PREDICTIONS,),
    run=run_prediction,
    tell=tell_prediction,
)
