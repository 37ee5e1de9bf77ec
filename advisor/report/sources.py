"""Where a report comes from: how the model file was understood, on what machine, and the run."""

from collections.abc import Iterator

from advisor.engine.question import Kind
from advisor.engine.record import Record, Series
from advisor.telling import Row
from advisor.training.data import WorkloadFacts
from advisor.units import count_of, format_bytes, format_duration, format_figure

#: Files that are named, of those that a script wrote.
_MOST_FILES = 5


def list_sources(kind: Kind, record: Record) -> list[Row]:
    """Return the rows at the end of a report."""
    rows = [] if record.workload is None else _list_workload(record.workload)
    if record.environment is not None:
        device = record.environment.device
        software = f"torch {record.environment.torch}"
        if record.workload is None or record.workload.script is None:
            software += f", {record.command.precision}" + ", compiled" * record.command.compile
        machine = f"{device.name}, {format_bytes(device.memory_bytes)}; {software}"
        rows.append(Row("Software", software) if kind.traces_only else Row("Machine", machine))
    if record.written_files:
        rows.append(Row("Files", _describe_files(record.written_files)))
    return [*rows, Row("Run", _describe_run(kind, record))]


def _describe_files(names: tuple[str, ...]) -> str:
    more = len(names) - _MOST_FILES
    rest = f" and {count_of(more, 'more file')}" if more > 0 else ""
    return f"your script wrote {', '.join(names[:_MOST_FILES])}{rest} while it was measured"


def _list_workload(workload: WorkloadFacts) -> list[Row]:
    count = workload.parameter_count
    size = "" if count is None else f", {count:,} parameters"
    return [
        Row("Model", f"{workload.model_name}{size}; {workload.how_model}"),
        Row("Loss", workload.how_loss),
        Row("Optimizer", "; ".join(_describe_optimizer(workload))),
        Row("Batch", workload.how_batch),
        *(Row("Note", note) for note in workload.notes),
    ]


def _describe_optimizer(workload: WorkloadFacts) -> Iterator[str]:
    yield workload.how_optimizer
    groups = () if workload.optimizer is None else workload.optimizer.groups
    rates = [group.learning_rate for group in groups]
    if len(set(rates)) > 1:
        told = ", ".join("none" if rate is None else format_figure(rate) for rate in rates)
        yield f"{len(rates)} parameter groups at the rates {told}, which keep their ratios"
    if workload.has_scheduler:
        yield "with your schedule"
    if workload.clip_grad_norm is not None:
        yield f"gradients clipped to a norm of {workload.clip_grad_norm:g}"


def _describe_run(kind: Kind, record: Record) -> str:
    series = (key for question in kind.questions for key in question.keys)
    counted = next((key for key in series if isinstance(key, Series) and key.noun), None)
    run = "" if counted is None else count_of(len(record.all(counted)), counted.noun)
    if record.elapsed_s is not None:
        elapsed = format_duration(record.elapsed_s)
        run = f"{run} in {elapsed}" if run else elapsed
    return f"{run}; {record.created_at}; bsadvisor {record.tool_version}".lstrip("; ")
